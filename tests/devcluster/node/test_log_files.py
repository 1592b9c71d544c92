from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest

from devcluster.node import log_files
from devcluster.node.kubelet import Wanted

SECOND = 1_000_000_000


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "0.log"


def pumped(log: Path, *pieces: bytes) -> None:
    """Write pieces into a log as a container would, one after another."""

    async def pump() -> None:
        found = log_files.Pump(log)
        for number in range(len(pieces)):
            os.write(found.writer, pieces[number])
            await asyncio.to_thread(until_long, log, sum(map(len, pieces[: number + 1])))
        os.close(found.writer)
        await found.ended()

    asyncio.run(pump())


def until_long(log: Path, length: int) -> None:
    deadline = time.monotonic() + 60
    while log.stat().st_size < length:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def lines(log: Path, start: int = 0) -> list[tuple[int, bytes]]:
    found = log_files.Lines(log, start)
    return [*found.add(log.read_bytes()[start:]), *found.rest()]


def test_a_log_is_what_was_written_byte_for_byte(log: Path) -> None:
    pumped(log, b"a\r\xff", b"b\n\n", b"c")
    assert log.read_bytes() == b"a\r\xffb\n\nc"


def test_each_line_has_the_time_of_the_piece_that_completed_it(log: Path) -> None:
    pumped(log, b"a", b"b\nc\n", b"d")
    (first, _), (second, _), (last, _) = found = lines(log)
    assert [line for _, line in found] == [b"ab\n", b"c\n", b"d"]
    assert first == second < last


def test_a_tail_has_the_times_of_the_whole(log: Path) -> None:
    pumped(log, b"a\n", b"b\n", b"c\n")
    assert lines(log, log_files.tail_start(log, 2)) == lines(log)[1:]


@pytest.mark.parametrize(
    ("text", "wanted", "found"),
    [
        (b"a\nb\nc\n", 2, b"b\nc\n"),
        (b"a\nb\nc", 2, b"b\nc"),
        (b"a\nb\n", 5, b"a\nb\n"),
        (b"bar 1\rbar 2\rbar 3\nend\n", 2, b"bar 1\rbar 2\rbar 3\nend\n"),
        (b"a\n\n", 1, b"\n"),
        (b"a\n", 0, b""),
        (b"", 3, b""),
        (b"x\n" * 100_000, 70_000, b"x\n" * 70_000),
    ],
)
def test_a_tail_counts_lines_by_their_newlines(log: Path, text: bytes, wanted: int, found: bytes) -> None:
    log.write_bytes(text)
    assert text[log_files.tail_start(log, wanted) :] == found


def test_stamps_have_nine_digits() -> None:
    assert log_files.stamp(1_700_000_000 * SECOND + 5) == b"2023-11-14T22:13:20.000000005Z "


def test_lines_before_the_time_asked_for_are_left_out_and_stamps_are_optional() -> None:
    written = [(1 * SECOND, b"a\n"), (9 * SECOND, b"b\n")]
    assert Wanted.of({"sinceSeconds": "5"}, 10 * SECOND).shown(written) == b"b\n"
    assert Wanted.of({"sinceTime": "1970-01-01T00:00:02Z"}, 0).shown(written) == b"b\n"
    stamped = Wanted.of({"timestamps": "true"}, 10 * SECOND).shown(written)
    assert stamped == b"1970-01-01T00:00:01.000000000Z a\n1970-01-01T00:00:09.000000000Z b\n"
