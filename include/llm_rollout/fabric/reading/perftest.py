"""Read what ib_write_bw, ib_write_lat and their relatives print, over all their versions.

The unit is only in the header, the peak stands before the average, noise stands between header and row, and a good row
may be followed by a failure. A capture may hold both ends. Formats: perftest_parameters.h, versions 4.4 to 26.01.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from llm_rollout.fabric.reading import causes
from llm_rollout.fabric.reading.causes import Cause, sign
from llm_rollout.fabric.reading.lines import table_lines
from llm_rollout.fabric.reading.outcome import (
    SIMULATED,
    Gate,
    Reading,
    Report,
    Row,
    Tool,
    Transport,
    concluded,
    link_transport,
    number,
)

MIB_TO_GBIT = 2**20 * 8 / 1e9
"""``MiB/sec`` and the ``MB/sec`` of versions before 2024 both count 2^20 bytes."""
GBITS = {"gb/sec": 1.0, "mib/sec": MIB_TO_GBIT, "mb/sec": MIB_TO_GBIT}

_TITLE = re.compile(r"^\s*(Send|RDMA_Write|RDMA_Read|Atomic)(?:_imm)?(\s[\w ]{0,80}?)(BW|Latency)\s[\w ]{0,40}Test\s*$")
_VERBS = {"Send": "send", "RDMA_Write": "write", "RDMA_Read": "read", "Atomic": "atomic"}
_COMMAND = re.compile(r"\bib_(?:write|read|send|atomic)_(?:bw|lat)\b")
_COLUMN = re.compile(
    r"#\w+|BW [\w ]+?\[[^\]]+\]|MsgRate[\w ]*\[[^\]]+\]|CPU_Util\[[^\]]*\]"
    r"|t_\w+\[usec\]|99(?:\.9+)?%\s*percentile\[usec\]|tps average"
)
_KEYS = {"msgrate": "mpps", "cpu_util": "cpu_percent", "99% percentile": "p99_usec", "99.9% percentile": "p99_9_usec"}
_COUNT = re.compile(r"[0-9]{1,18}")
_RULE = re.compile(r"^\s*(-{40,})\s*$")
_SETTING = re.compile(r"(?:^|\s)(Device|Transport type|Link type)\s*:\s*(\S+)")
_EXTRA_RULE = "Waiting for client rdma_cm"
_ONE_END = re.compile(r"^\s*Local results:")

_NO_REGION = ("Couldn't allocate MR", "failed to create mr", "Failed to create MR")
SIGNS = (
    sign("port", " state is ", r"Port number \d+ state is (?!Active\b)\w+"),
    sign("port", "Couldn't set the link layer"),
    sign("no-device", "Unable to find the Infiniband/RoCE device"),
    sign("no-device", "IB device", r"IB device \S+ not found"),
    sign("no-device", "Did not detect devices"),
    sign("no-device", "Failed to get IB devices list"),
    sign("no-device", "Couldn't get context for the device"),
    sign("memlock", "Cannot allocate memory"),
    *(sign("memlock", words) for words in _NO_REGION),
    sign("gid", "Failed to modify QP", r"Failed to modify QP \d* ?to RT[RS]"),
    sign("gid", "Unable to Connect the HCA's"),
    sign("oob", "Couldn't connect to"),
    sign("oob", "Unable to init the socket connection"),
    sign("oob", "Unable to open file descriptor for socket"),
    sign("oob", "Couldn't read remote address"),
    sign("oob", "Failed to exchange data"),
    sign("oob", "Problem in binding"),
    sign("oob", "Failed to bind socket"),
    sign("oob", "Couldn't listen to port"),
    sign("oob", "to socket/rdma_cm", r"Unable to \w+ (?:from|to) socket/rdma_cm"),
    sign("oob", "from socket/rdma_cm", r"Unable to \w+ (?:from|to) socket/rdma_cm"),
    sign("other", "Completion with error"),
    sign("other", "Error", r"^\s*Error\b[^\n]{0,120}"),
    sign("other", "Can't produce a report"),
    sign("other", "Parser function exited with Error"),
    sign("other", "ailed ", r"(?:^|\n)\s*Failed (?:to|sync|send|poll)[^\n]{0,120}"),
    sign("other", "Couldn't ", r"^\s*Couldn't [^\n]{0,120}"),
    sign("other", "Unable to ", r"^\s*Unable to (?!validata|access performance)[^\n]{0,120}"),
    *causes.SHARED,
)
"""Every line that begins like a failure counts as one, besides two that go before a run as good as any."""


@dataclass(frozen=True)
class Table:
    """The rows of all tables of a text, and whether each report in it is there to its closing rule."""

    rows: Sequence[Row]
    closed: bool


def read(text: str) -> Reading:
    """The reading of a clean text. A table whose unit cannot be read tells nothing."""
    lines = table_lines(text)
    seen = table(lines)
    found = gate(seen.rows, both_ways=both_ways(text))
    return concluded(
        Report(
            tool=_tool(_titles(lines), text),
            rows=seen.rows,
            causes=failures(text),
            whole=seen.closed and found is not None,
            transport=transport(text, lines),
            gate=found,
        )
    )


def failures(text: str) -> list[Cause]:
    """Everything in ``text`` that says that a run failed. Memory of a GPU needs more than the right to lock it."""
    seen = [*causes.completions(text), *causes.found(text, SIGNS)]
    on_gpu = "cuda" in text or "CUDA" in text
    return [Cause("gdr-missing", cause.words) if on_gpu and cause.words in _NO_REGION else cause for cause in seen]


def table(lines: Sequence[str]) -> Table:
    """All rows, named after their columns."""
    columns: list[str] = []
    rows: list[Row] = []
    rules: list[tuple[int, int]] = []
    last_row, headers = -1, 0
    for place, line in enumerate(lines):
        if _ONE_END.match(line):
            break
        if rule := _RULE.match(line):
            rules.append((place, len(rule.group(1))))
        elif "#bytes" in line:
            columns, headers = _COLUMN.findall(line), headers + 1
        elif (row := _row(columns, line)) is not None:
            rows.append(row)
            last_row = place
    widest = max((width for place, width in rules if place < last_row), default=0)
    closing = [place for place, width in rules if place > last_row and width >= widest]
    reports = _titles(lines)
    return Table(rows, bool(rows and closing) and _all_there(reports, lines, (len(rules), headers, len(rows))))


def gate(rows: Sequence[Row], *, both_ways: bool) -> Gate | None:
    """The average of the largest message for one direction, or the latency of the smallest.

    Two ends of one run print the same number; of different ones the worse counts.
    """
    bandwidths = [row for row in rows if "unit" in row]
    latencies = [row for row in rows if "t_avg_usec" in row or "t_typical_usec" in row]
    if bandwidths:
        largest = max(row["bytes"] for row in bandwidths)
        found = [row["average"] * GBITS[row["unit"].lower()] for row in bandwidths if row["bytes"] == largest]
        return Gate("gate_gbps", _worst(found, min) / (2 if both_ways else 1))
    if latencies:
        smallest = min(row["bytes"] for row in latencies)
        at = [row for row in latencies if row["bytes"] == smallest]
        return Gate("gate_usec", _worst([row.get("t_avg_usec", row.get("t_typical_usec")) for row in at], max))
    return None


def both_ways(text: str) -> bool:
    """Whether the numbers are the sum of both directions."""
    return any("Bidirectional" in words for _, words, _ in _titles(table_lines(text)))


def transport(text: str, lines: Sequence[str]) -> Transport | None:
    """What the settings block says the data went over; None when it says nothing."""
    settings = {(name, value) for line in lines for name, value in _SETTING.findall(line)}
    by_name = {name: {value for each, value in settings if each == name} for name, _ in settings}
    kinds = by_name.get("Transport type", set())
    if SIMULATED in text or kinds - {"IB"}:
        return "other"
    if not settings:
        return None
    return link_transport(by_name.get("Link type", {"?"}), by_name.get("Device", set()))


def tool_of(verb: str, kind: str) -> Tool:
    """``RDMA_Write`` and ``BW`` make ``ib_write_bw``."""
    return f"ib_{_VERBS[verb]}_{'bw' if kind == 'BW' else 'lat'}"  # type: ignore[return-value]


def _tool(titles: Sequence[tuple[str, str, str]], text: str) -> Tool:
    if titles:
        return tool_of(titles[0][0], titles[0][2])
    command = _COMMAND.search(text[:20_000])
    return command.group(0) if command else "perftest"  # type: ignore[return-value]


def _titles(lines: Sequence[str]) -> list[tuple[str, str, str]]:
    return [found.groups() for line in lines if (found := _TITLE.match(line))]  # type: ignore[misc]


def _all_there(titles: Sequence[tuple[str, str, str]], lines: Sequence[str], counts: tuple[int, int, int]) -> bool:
    """Whether no end of a capture of several is cut: both ends print as many rules and rows.

    The server of a read or an atomic latency test prints no row.
    """
    rules, headers, rows = counts
    ends = len(titles)
    if ends <= 1:
        return True
    rules -= sum(_EXTRA_RULE in line for line in lines)
    one_sided = any(verb in {"RDMA_Read", "Atomic"} for verb, _, _ in titles)
    return rules % ends == 0 and headers >= ends and (one_sided or rows % ends == 0)


def _row(columns: Sequence[str], line: str) -> Row | None:
    values = line.split()
    if columns[:1] != ["#bytes"] or len(values) != len(columns):
        return None
    whole = all(_COUNT.fullmatch(value) for name, value in zip(columns, values, strict=True) if name.startswith("#"))
    numbers = [number(value) for value in values]
    return dict(_cells(columns, numbers)) if whole and None not in numbers else None


def _cells(columns: Sequence[str], numbers: Sequence[float | None]) -> Iterator[tuple[str, Any]]:
    for column, value in zip(columns, numbers, strict=True):
        name, _, unit = column.partition("[")
        name, unit = name.strip().lower(), unit.rstrip("]")
        if name.startswith("#"):
            yield name[1:], int(value or 0)
        elif name == "bw average" and unit.lower() in GBITS:
            yield from (("average", value), ("unit", unit))
        elif name in _KEYS or unit == "usec":
            yield _KEYS.get(name, f"{name}_usec"), value
        else:
            yield name.removeprefix("bw ").replace("msgrate", "mpps").replace(" ", "_"), value


def _worst(values: Sequence[float], choose: Any) -> float:
    return float("nan") if any(value != value for value in values) else float(choose(values))  # noqa: PLR0124 - not a number
