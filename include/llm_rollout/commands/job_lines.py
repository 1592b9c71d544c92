"""What the commands of the Jobs print and how they end; ``llm_rollout.job_output`` reads it on the other side."""

from __future__ import annotations

import json
import signal
from collections.abc import Mapping
from types import FrameType
from typing import Any, NoReturn

EXIT_USAGE = 2
EXIT_PERMANENT = 3
EXIT_TRANSIENT = 4
EXIT_NO_SPACE = 5


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
    raise SystemExit(128 + signal.SIGTERM)
