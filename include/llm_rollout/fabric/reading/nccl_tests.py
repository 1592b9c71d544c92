"""Read what all_reduce_perf and the other nccl-tests print, and what NCCL logged in between.

The gate is the bus bandwidth, out of place, of the largest size: the "Avg bus bandwidth" of a sweep is mostly about
small messages. Formats: util.cu and common.cu, versions 2.0 (no root column, ``error`` instead of ``#wrong``) to 2.19.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from llm_rollout.fabric.reading import causes, nccl_log
from llm_rollout.fabric.reading.causes import Cause, sign
from llm_rollout.fabric.reading.lines import table_lines
from llm_rollout.fabric.reading.outcome import Gate, Reading, Report, Row, concluded, number

_HEADER = re.compile(r"^\s*#\s+size\s.*\bbusbw\b")
_BEGINNING = re.compile(r"^\s*(\d{1,18})\s+(\d{1,18})\s+([a-z]\w{2,15})(?:\s+([a-z]\w{2,15}))?(?=\s)")
_STAMP = re.compile(r"\s+\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d\s*$")
_OUT_OF_BOUNDS = re.compile(
    r"^[ \t]*#[ \t]*Out of bounds values[ \t]*:[ \t]*(\d+)[ \t]+(OK|FAILED)[ \t]*$", re.MULTILINE
)
_AVERAGE = re.compile(r"^[ \t]*#[ \t]*Avg bus bandwidth[ \t]*:[ \t]*(\S+)(?:[ \t]+(OK|FAILED))?[ \t]*\n", re.MULTILINE)
_STARTING = re.compile(r"^[ \t]*# Collective test starting: (\S+)[ \t]*$", re.MULTILINE)
_CONCLUDED = re.compile(r"^[ \t]*# Collective test concluded: (\S+)[ \t]*$", re.MULTILINE)
_SIDE = 4
_SIDE_WITH_ITERATIONS = 8

SIGNS = (
    sign("timeout", "Test timeout"),
    sign("other", "Test NCCL failure", r"Test NCCL failure[^\n]{0,200}"),
    sign("other", "Test CUDA failure", r"Test CUDA failure[^\n]{0,200}"),
    sign("other", "Test failure"),
    sign("other", "Invalid number of GPUs"),
    sign("other", "Incompatible NCCL versions"),
    *nccl_log.SIGNS,
)


def read(text: str) -> Reading:
    """The reading of a clean text."""
    lines = table_lines(text)
    old = not any("#wrong" in line for line in lines if _HEADER.match(line))
    rows = [row for line in lines if (row := _row(line)) is not None]
    log = nccl_log.seen(text)
    return concluded(
        Report(
            tool="nccl-tests",
            rows=rows,
            causes=[
                *causes.completions(text),
                *causes.found(text, SIGNS),
                *_verdicts(text, rows, old=old),
                *log.causes,
            ],
            whole=_whole(text, lines) and bool(rows),
            transport=log.transport,
            gate=gate(rows),
        )
    )


def gate(rows: Sequence[Row]) -> Gate | None:
    """Bus bandwidth of the largest size in GB/s; of several rows of that size the worst."""
    if not rows:
        return None
    largest = max(row["bytes"] for row in rows)
    sides = [row["out_of_place"] for row in rows if row["bytes"] == largest]
    values = [side["busbw"] if side and side["busbw"] is not None else float("nan") for side in sides]
    return Gate("gate_busbw_gbytes", float("nan") if any(value != value for value in values) else min(values))  # noqa: PLR0124 - not a number


def wrong_rows(rows: Sequence[Row]) -> Iterator[Cause]:
    """A row whose data is wrong, whatever the footer says."""
    for row in rows:
        wrong = max((side["wrong"] or 0 for side in (row["out_of_place"], row["in_place"]) if side), default=0)
        if wrong > 0:
            yield Cause("wrong-data", f"{wrong:g} wrong values of {row['bytes']} bytes")


def _verdicts(text: str, rows: Sequence[Row], *, old: bool) -> Iterator[Cause]:
    """The tool's own. Old versions print the greatest deviation in each row, which is seldom zero and no error."""
    if not old:
        yield from wrong_rows(rows)
    for found in _OUT_OF_BOUNDS.finditer(text):
        if found.group(2) == "FAILED" or int(found.group(1)[:18]):
            yield Cause("wrong-data", found.group(0).strip(" #\n"))
    for found in _AVERAGE.finditer(text):
        if found.group(2) == "FAILED":
            yield Cause("other", found.group(0).strip(" #\n"))


def _whole(text: str, lines: Sequence[str]) -> bool:
    """Every table has its footer; of versions that name the test at both ends, the name stands there again."""
    tables = sum(_HEADER.match(line) is not None for line in lines)
    footers = min(len(_OUT_OF_BOUNDS.findall(text)), len(_AVERAGE.findall(text)))
    started, concluded_ = sorted(_STARTING.findall(text)), sorted(_CONCLUDED.findall(text))
    return tables <= footers and footers > 0 and (not started or started == concluded_)


def _row(line: str) -> dict[str, Any] | None:
    beginning = _BEGINNING.match(line)
    if beginning is None:
        return None
    words = _STAMP.sub("", line[beginning.end() :]).split()
    has_root = len(words) % _SIDE == 1
    numbers = [None if word == "N/A" else number(word) for word in words[has_root:]]
    width = {4: 4, 8: 4, 16: 8}.get(len(numbers))
    readable = all(value is not None or word == "N/A" for value, word in zip(numbers, words[has_root:], strict=True))
    if width is None or not readable:
        return None
    size, count, kind, operation = beginning.groups()
    sides = [_side(numbers[start : start + width]) for start in range(0, len(numbers), width)]
    return {
        "bytes": int(size),
        "count": int(count),
        "type": kind,
        "redop": operation,
        "root": number(words[0]) if has_root else None,
        "out_of_place": sides[0] if len(sides) > 1 else None,
        "in_place": sides[-1],
    }


def _side(numbers: Sequence[float | None]) -> dict[str, float | None]:
    names = ("time_usec", "algbw", "busbw", "wrong", "i_min_usec", "i_max_usec", "i_p99_usec", "i_cv_percent")
    return dict(zip(names, numbers, strict=False))
