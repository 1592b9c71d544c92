"""Count the calls of this process that change the file system, and kill or stop it at one of them.

Calls that only read change nothing on the disk: a kill beside them finds what a kill beside the last change finds.
"""

from __future__ import annotations

import builtins
import io
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

_AUDITED = {
    "os.rename", "os.link", "os.symlink", "os.mkdir", "os.remove", "os.rmdir", "os.chmod", "os.truncate", "os.utime",
}  # fmt: skip
_UNAUDITED = ("pwrite", "write", "fsync", "fdatasync", "posix_fallocate", "copy_file_range", "sendfile", "close")
_CHANGING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_write = os.write


class DiskCalls:
    """Names the calls in order; before the one numbered ``at``, from 0, the process sends itself ``end``.

    For a process that is forked for it: there is no way back.
    """

    def __init__(self, end: signal.Signals, at: int | None, *, torn: bool, tell: int) -> None:
        """``torn`` lets the call at which it ends write half of its bytes; ``tell`` is where to say what it was."""
        self.names: list[str] = []
        self._end, self._at, self._torn, self._tell = end, at, torn, tell
        self._lock = threading.Lock()

    def install(self) -> None:
        """From here on."""
        for name in _UNAUDITED:
            setattr(os, name, self._counted(name, getattr(os, name)))
        io.open = builtins.open = self._open  # type: ignore[assignment]
        sys.addaudithook(self._audit)

    def tell(self, line: str) -> None:
        """Write a line to whoever forked this process."""
        _write(self._tell, line.encode() + b"\n")

    def count(self, name: str, half: Callable[[], Any] | None = None) -> None:
        """One call is about to happen; ``half`` does half of it."""
        with self._lock:
            self.names.append(name)
            if len(self.names) - 1 != self._at:
                return
            if self._torn and half is not None:
                half()
            self.tell(f'{{"ended_at": "{name}"}}')
            os.kill(os.getpid(), self._end)

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in _AUDITED:
            self.count(event)
        elif event == "open" and isinstance(arguments[2], int) and arguments[2] & _CHANGING:
            self.count("open")

    def _counted(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **options: Any) -> Any:
            half = None
            if name in {"pwrite", "write"}:
                handle, block, *place = arguments
                half = lambda: call(handle, block[: len(block) // 2], *place)  # noqa: E731
            self.count(name, half)
            return call(*arguments, **options)

        return counted

    def _open(self, file: Any, mode: str = "r", buffering: int = -1, *args: Any, **options: Any) -> Any:
        """As ``open``, with a raw file whose writes are seen."""
        if not set(mode) & set("wxa+"):
            return _open(file, mode, buffering, *args, **options)
        raw = _Raw(file, mode.replace("b", "").replace("t", ""), closefd=options.pop("closefd", True))
        raw.calls = self
        if buffering == 0:
            return raw
        stream = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        return stream if "b" in mode else io.TextIOWrapper(stream, *args, **options)


class _Raw(io.FileIO):
    calls: DiskCalls

    def write(self, block: Any) -> int:
        self.calls.count("file.write", lambda: io.FileIO.write(self, memoryview(block)[: len(block) // 2]))
        return super().write(block)

    def truncate(self, size: int | None = None) -> int:
        self.calls.count("file.truncate")
        return super().truncate(size)


_open = io.open
