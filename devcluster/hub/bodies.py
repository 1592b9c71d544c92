"""Send the bytes of a file, whole or a range of it, well or badly."""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from devcluster.hub.faults import Fault

Part = tuple[int, int]
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_SLOW_STEPS_PER_SECOND = 200
_BLOCK_BYTES = 256 * 1024


def requested_range(header: str | None, size_bytes: int) -> Part | None:
    """``(start, end)`` with ``end`` exclusive, the whole file without a header, None when it cannot be satisfied."""
    match = _RANGE.fullmatch(header.strip()) if header else None
    if match is None:
        return 0, size_bytes
    first, last = match.groups()
    if not first:
        return (max(0, size_bytes - int(last)), size_bytes) if last and int(last) > 0 else None
    start, end = int(first), min(int(last) + 1 if last else size_bytes, size_bytes)
    return (start, end) if start < end else None


def elsewhere(part: Part, by_bytes: int, size_bytes: int) -> Part:
    """A range of the same length so many bytes further on, or further back where the file ends before."""
    start, end = part
    by_bytes = by_bytes if end + by_bytes <= size_bytes else -min(by_bytes, start)
    return start + by_bytes, end + by_bytes


def under_fault(part: Part, size_bytes: int, fault: Fault | None) -> tuple[Part, str]:
    """What of an asked part is sent, and what Content-Range says of it."""
    sent, said, total = part, part, size_bytes
    match fault:
        case Fault(kind="truncate"):
            sent = said = (part[0], min(part[1], part[0] + fault.bytes))
        case Fault(kind="wrong_range"):
            sent = said = elsewhere(part, fault.bytes, size_bytes)
        case Fault(kind="misplaced"):
            sent = elsewhere(part, fault.bytes, size_bytes)
        case Fault(kind="wrong_total"):
            total += fault.bytes
    return sent, f"bytes {said[0]}-{said[1] - 1}/{total}"


def send(connection: socket.socket, source: Path, part: Part, fault: Fault | None) -> Iterator[Part]:
    """Write that part of ``source`` and name each piece once it has left; fewer where ``fault`` says so."""
    start, end = part
    if fault is None:
        yield from _send_as_it_is(connection, source, start, end)
        return
    for block in _spoiled(_blocks(source, start, end, fault), start, fault):
        connection.sendall(block)
        yield start, start + len(block)
        start += len(block)
    if fault.kind == "stall":
        time.sleep(fault.seconds)


def keeps_connection(fault: Fault | None) -> bool:
    """Whether the connection is still in step after a body sent with ``fault``."""
    return fault is None or fault.kind not in {"drop_after", "stall"}


def _send_as_it_is(connection: socket.socket, source: Path, start: int, end: int) -> Iterator[Part]:
    """The kernel copies; in blocks, so that what has left is known while the rest is on its way."""
    with source.open("rb") as stream:
        while start < end:
            count = os.sendfile(connection.fileno(), stream.fileno(), start, min(_BLOCK_BYTES, end - start))
            if not count:
                return
            yield start, start + count
            start += count


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
