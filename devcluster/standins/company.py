"""Whether another bandwidth run is under way on the fabric: told by locks on the fabric file, which all nodes share.

The server of each run locks two bytes of its own: one from its start to its end, which its company sees, and one until
its client has looked round. A run that has company waits for that, so that each of the two sees the other, however
busy the machine. A read lock needs no right to write, holds across sandboxes and ends with its process.
"""

from __future__ import annotations

import fcntl
import os
import random
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

_FLOCK = "hhqqi4x"
"""``struct flock`` of 64-bit Linux."""
_PLACES = 2**61
"""Locks may lie beyond the file's end. So many places: two runs never draw the same."""
_UNDER_WAY, _LOOKING = 0, _PLACES
"""Where the bytes of the two kinds begin."""
_LOOK_SECONDS = 1.5
"""How much later than this run's client another run's server may start to be company."""
_WAIT_SECONDS = 10.0
"""For others to look round. One whose client failed to start never does."""
_POLL_SECONDS = 0.01


class Run:
    """A server's run as others see it; without a fabric file there are no others."""

    def __init__(self, path: Path) -> None:
        """Be seen from now on."""
        self.place = random.randrange(_PLACES)
        self._file = os.open(path, os.O_RDONLY) if path.exists() else None
        for kind in (_UNDER_WAY, _LOOKING):
            self._lock(fcntl.F_RDLCK, kind)

    def looked(self) -> None:
        """This run's client has seen what company it has."""
        self._lock(fcntl.F_UNLCK, _LOOKING)

    def _lock(self, lock: int, kind: int) -> None:
        # Locks of the open file, not of the process: those would end when the process closes the fabric file elsewhere.
        if self._file is not None:
            fcntl.fcntl(self._file, fcntl.F_OFD_SETLK, struct.pack(_FLOCK, lock, 0, kind + self.place, 1, 0))


def accompanied(path: Path, place: int, looked: Callable[[], None]) -> bool:
    """Whether a run besides the one at ``place`` is under way, now or within the next moment.

    ``looked`` is called once that is known. With company, this returns when all others know of theirs too.
    """
    with path.open("rb") as file:
        seen = _within(_LOOK_SECONDS, lambda: _others(file, _UNDER_WAY, place))
        looked()
        if seen:
            _within(_WAIT_SECONDS, lambda: not _others(file, _LOOKING, place))
    return seen


def _within(seconds: float, true: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while not (now := true()) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    return now


def _others(file: IO[bytes], kind: int, place: int) -> bool:
    return _locked(file, kind, kind + place) or _locked(file, kind + place + 1, kind + _PLACES)


def _locked(file: IO[bytes], start: int, end: int) -> bool:
    if start == end:
        return False
    found = fcntl.fcntl(file, fcntl.F_OFD_GETLK, struct.pack(_FLOCK, fcntl.F_WRLCK, 0, start, end - start, 0))
    return bool(struct.unpack(_FLOCK, found)[0] != fcntl.F_UNLCK)
