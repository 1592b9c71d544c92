"""Send the bytes of a file, whole or a range of it, well or badly."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from devcluster.hub.faults import Fault

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_SLOW_STEPS_PER_SECOND = 20
_BLOCK_BYTES = 256 * 1024


def requested_range(header: str | None, size_bytes: int) -> tuple[int, int] | None:
    """``(start, end)`` with ``end`` exclusive, the whole file without a header, None when it cannot be satisfied."""
    match = _RANGE.fullmatch(header.strip()) if header else None
    if match is None:
        return 0, size_bytes
    first, last = match.groups()
    if not first:
        return (max(0, size_bytes - int(last)), size_bytes) if last and int(last) > 0 else None
    start, end = int(first), min(int(last) + 1 if last else size_bytes, size_bytes)
    return (start, end) if start < end else None


def send(connection: socket.socket, source: Path, start: int, end: int, fault: Fault | None) -> int:
    """Write ``source[start:end]`` and return the bytes written; fewer than asked for when ``fault`` says so."""
    if fault is None:
        with source.open("rb") as stream:
            return connection.sendfile(stream, start, end - start) if end > start else 0
    sent = 0
    for block in _spoiled(_blocks(source, start, end, fault), start, fault):
        connection.sendall(block)
        sent += len(block)
    if fault.kind == "stall":
        time.sleep(fault.seconds)
    return sent


def keeps_connection(fault: Fault | None) -> bool:
    """Whether the connection is still in step after a body sent with ``fault``."""
    return fault is None or fault.kind not in {"drop_after", "stall"}


def _blocks(source: Path, start: int, end: int, fault: Fault) -> Iterator[bytes]:
    stop = min(end, start + fault.bytes) if fault.kind in {"drop_after", "stall"} else end
    step = max(1, fault.bytes_per_second // _SLOW_STEPS_PER_SECOND) if fault.kind == "slow" else _BLOCK_BYTES
    with source.open("rb") as stream:
        stream.seek(start)
        while start < stop:
            block = stream.read(min(step, stop - start))
            start += len(block)
            yield block


def _spoiled(blocks: Iterator[bytes], start: int, fault: Fault) -> Iterator[bytes]:
    for block in blocks:
        if fault.kind == "slow":
            time.sleep(len(block) / fault.bytes_per_second)
        at = fault.bytes - start
        spoil = fault.kind == "corrupt" and 0 <= at < len(block)
        yield block[:at] + bytes([block[at] ^ 1]) + block[at + 1 :] if spoil else block
        start += len(block)
