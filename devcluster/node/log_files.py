"""What a container prints, in files: the bytes as they came, and beside them when each of them came.

A container runtime stamps each line as it arrives. Here ``<run>.log`` holds the bare bytes and ``<run>.times`` pairs
of unsigned 64-bit numbers: the length of the log after a piece was written, and the time then in nanoseconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import os
import time
from array import array
from bisect import bisect_left
from collections.abc import Iterator
from pathlib import Path

_PIECE_BYTES = 1 << 16
_PIPE_PATIENCE_SECONDS = 5.0
"""A container's processes end with its first one, so its pipe does too."""
_NANOSECONDS = 1_000_000_000


class Pump:
    """Carries what is written to a pipe into a log. Its file descriptors close when all writers have."""

    def __init__(self, log: Path) -> None:
        """Open a pipe whose other end ``writer`` is for a process; close that here once the process has it."""
        read_end, self.writer = os.pipe()
        self._reader = read_end
        self._log = log.open("ab")
        self._times = times_of(log).open("ab")
        self._ended = asyncio.Event()
        os.set_blocking(read_end, False)
        asyncio.get_running_loop().add_reader(read_end, self._pour)

    async def ended(self) -> None:
        """Return when everything that was written is in the log."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PIPE_PATIENCE_SECONDS):
                await self._ended.wait()

    def _pour(self) -> None:
        piece = os.read(self._reader, _PIECE_BYTES)
        if piece:
            # Nobody may see bytes before their time is known.
            array("Q", (self._log.tell() + len(piece), time.time_ns())).tofile(self._times)
            self._times.flush()
            self._log.write(piece)
            self._log.flush()
            return
        asyncio.get_running_loop().remove_reader(self._reader)
        os.close(self._reader)
        self._log.close()
        self._times.close()
        self._ended.set()


class Lines:
    """Cuts the bytes of a log into lines and knows when each was complete, as a container runtime stamps it."""

    def __init__(self, log: Path, position: int) -> None:
        """Begin with the byte at ``position``."""
        self._log = log
        self._end = position
        self._rest = b""
        self._lengths: array[int] = array("Q")
        self._nanoseconds: array[int] = array("Q")

    def add(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """The lines that ``data`` completes, each with its time in nanoseconds since the epoch."""
        *whole, self._rest = (self._rest + data).split(b"\n")
        for line in whole:
            yield self._stamped(line + b"\n")

    def rest(self) -> Iterator[tuple[int, bytes]]:
        """The last line, if no newline ended it."""
        if self._rest:
            yield self._stamped(self._rest)
            self._rest = b""

    def _stamped(self, line: bytes) -> tuple[int, bytes]:
        self._end += len(line)
        if not self._lengths or self._lengths[-1] < self._end:
            self._load()
        place = bisect_left(self._lengths, self._end)
        known = place < len(self._lengths)
        return (self._nanoseconds[place] if known else self._log.stat().st_mtime_ns), line

    def _load(self) -> None:
        pairs: array[int] = array("Q")
        with contextlib.suppress(FileNotFoundError):
            pairs.frombytes(times_of(self._log).read_bytes())
        self._lengths, self._nanoseconds = pairs[0::2], pairs[1::2]


def times_of(log: Path) -> Path:
    """The file with the times of a log."""
    return log.with_suffix(".times")


def stamp(nanoseconds: int) -> bytes:
    """A time as a kubelet writes it before a line: RFC 3339 with all nine digits of the second, and a space."""
    seconds, rest = divmod(nanoseconds, _NANOSECONDS)
    return f"{dt.datetime.fromtimestamp(seconds, dt.UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z ".encode()


def runs(folder: Path) -> list[Path]:
    """The logs of a container, oldest run first."""
    return sorted(folder.glob("*.log"), key=lambda path: int(path.stem)) if folder.is_dir() else []


def tail_start(log: Path, lines: int) -> int:
    """The offset at which the last ``lines`` lines begin."""
    position = size = log.stat().st_size
    block = b""
    with log.open("rb") as file:
        while position > 0 and block[:-1].count(b"\n") < lines:
            step = min(_PIECE_BYTES, position)
            position -= step
            file.seek(position)
            block = file.read(step) + block
    found = block.split(b"\n")
    # After a last newline there is an empty piece, which is no line; before the cut there is a newline of its own.
    kept = found[max(0, len(found) - lines - (not found[-1])) :] if lines else []
    return size - len(b"\n".join(kept))
