"""Whether another bandwidth run is under way on the fabric: told by locks on the fabric file, which all nodes share.

A read lock needs no right to write, holds across sandboxes and ends with its process, whatever ends that.
"""

from __future__ import annotations

import fcntl
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

_FLOCK = "hhqqi4x"
"""``struct flock`` of 64-bit Linux."""
_LOOK_SECONDS = 1.5
"""Programs of one round start within this time even on a busy machine."""
_POLL_SECONDS = 0.01


@contextmanager
def under_way(path: Path) -> Iterator[Callable[[], bool]]:
    """Let others see this run. The value tells whether one of them is under way, now or within the next moment."""
    if not path.exists():
        yield lambda: False
        return
    with path.open("rb") as file:  # One descriptor for all: closing any of a file's ends the process's locks on it.
        fcntl.lockf(file, fcntl.LOCK_SH)
        yield lambda: _seen(file)


def _seen(file: IO[bytes]) -> bool:
    deadline = time.monotonic() + _LOOK_SECONDS
    while time.monotonic() < deadline:
        found = fcntl.fcntl(file, fcntl.F_GETLK, struct.pack(_FLOCK, fcntl.F_WRLCK, 0, 0, 0, 0))
        if struct.unpack(_FLOCK, found)[0] != fcntl.F_UNLCK:
            return True
        time.sleep(_POLL_SECONDS)
    return False
