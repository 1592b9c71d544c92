"""Log lines as vLLM writes them: log messages to standard output, progress bars to standard error."""

from __future__ import annotations

import os
import sys
import time

_role = "APIServer"


def become(role: str) -> None:
    """Set the process name that stands before each line, such as ``Worker_PP1``."""
    global _role  # noqa: PLW0603 - one process has one log
    _role = role


def role() -> str:
    """Return the process name that stands before each line."""
    return _role


def info(where: str, message: str) -> None:
    """Write an INFO line as if from the source position ``where``, such as ``core.py:107``."""
    _write("INFO", where, message)


def warning(where: str, message: str) -> None:
    """Write a WARNING line."""
    _write("WARNING", where, message)


def error(where: str, message: str) -> None:
    """Write an ERROR line for each line of ``message``."""
    _write("ERROR", where, message)


def plain(message: str) -> None:
    """Write lines without level and time, the way tracebacks come."""
    for line in message.splitlines():
        print(f"({_role} pid={os.getpid()}) {line}", flush=True)


def _write(level: str, where: str, message: str) -> None:
    stamp = time.strftime("%m-%d %H:%M:%S")
    for line in message.splitlines():
        print(f"({_role} pid={os.getpid()}) {level} {stamp} [{where}] {line}", flush=True)


class ShardBar:
    """The bar over safetensors shards; redrawn with carriage returns, as tqdm does."""

    def __init__(self, total: int) -> None:
        """Draw an empty bar for ``total`` shards."""
        self._total = total
        self._started = time.monotonic()
        self.show(0)

    def show(self, done: int) -> None:
        """Redraw with ``done`` shards loaded; ends the line after the last."""
        seconds = time.monotonic() - self._started
        rate = f"{done / seconds:.2f}it/s" if done and seconds > 0 else "?it/s"
        left = _clock(seconds * (self._total - done) / done) if done else "?"
        text = (
            f"Loading safetensors checkpoint shards: {100 * done // self._total:3d}% Completed | "
            f"{done}/{self._total} [{_clock(seconds)}<{left}, {rate}]"
        )
        sys.stderr.write(f"\r{text}" + ("\n" if done == self._total else ""))
        sys.stderr.flush()


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60:02d}:{int(seconds) % 60:02d}"
