"""What the commands of the Jobs print and how they end; ``llm_rollout.job_output`` reads it on the other side."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Mapping
from types import FrameType
from typing import Any, NoReturn, Self

EXIT_USAGE = 2
EXIT_PERMANENT = 3
EXIT_TRANSIENT = 4
EXIT_NO_SPACE = 5
EXIT_TERMINATED = 128 + signal.SIGTERM
_GRANTED_WITHIN_SECONDS = 2.0
"""Work that may be ended asks ten times a second."""

_STORE_FAILURES = {
    EXIT_PERMANENT: ("Permanent", "another try cannot help: the message says what to change"),
    EXIT_TRANSIENT: ("Transient", "run it again: it goes on where it was"),
    EXIT_NO_SPACE: ("NoSpace", "make room, then run it again: it goes on where it was"),
}
"""By exit code: the error's class, and what to do about it."""


def tell(line: Mapping[str, Any]) -> None:
    """Print one JSON object on a line of its own, at once: the reader follows the log."""
    print(json.dumps(line), flush=True)


def error(kind: str, message: str, remedy: str) -> dict[str, str]:
    """The last line of a command that did not do its work; ``kind`` is the word of the retry policy."""
    return {"event": "error", "class": kind, "message": message, "remedy": remedy}


def store_error(failure: Exception, code: int) -> dict[str, str]:
    """The last line of a command that changes a store and ends with ``code``."""
    kind, remedy = _STORE_FAILURES[code]
    return error(kind, str(failure), remedy)


def unwind_on_sigterm() -> None:
    """Have SIGTERM end the process as an exception does, so that what is held is released and what is open written."""
    signal.signal(signal.SIGTERM, _end)


def _end(_number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(EXIT_TERMINATED)


class Ending:
    """SIGTERM as a wish, for work that shares locks with threads of its own; in force for the length of a block.

    An exception raised wherever the signal happens to arrive could leave such a lock taken, or release it twice. Who
    does not ask ``grant`` in time is ended as by SIGKILL, so that what is on the disk must stand that at any time.
    """

    def __enter__(self) -> Self:
        """Wait for SIGTERM from now on."""
        self._is_asked = self._is_over = False
        reader, self._writer = os.pipe()
        self._before = signal.signal(signal.SIGTERM, self._ask)
        threading.Thread(target=self._end_by_force, args=(reader,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """The work is done, or has been let go."""
        self._is_over = True
        signal.signal(signal.SIGTERM, self._before)
        os.close(self._writer)

    def grant(self) -> None:
        """Raise SystemExit where an end was asked for: nothing is held here that must not be let go."""
        if self._is_asked:
            self._is_over = True
            raise SystemExit(EXIT_TERMINATED)

    def _ask(self, _number: int, _frame: FrameType | None) -> None:
        # A write to a pipe, for it takes no lock that the interrupted code might hold.
        self._is_asked = True
        os.write(self._writer, b"1")

    def _end_by_force(self, reader: int) -> None:
        with open(reader, "rb", buffering=0) as asked:
            if not asked.read(1):
                return
        time.sleep(_GRANTED_WITHIN_SECONDS)
        if not self._is_over:
            os._exit(EXIT_TERMINATED)
