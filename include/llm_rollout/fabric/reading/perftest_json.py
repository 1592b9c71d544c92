"""Read the file that perftest's --out_json writes: of a sweep only the last size, and without a unit.

Since 2024 it is JSON; before, names and words stood there without quotes. The unit of a bandwidth follows from the
message rate, which is printed beside it: size times rate is the bandwidth in bytes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from llm_rollout.fabric.reading.lines import table_lines
from llm_rollout.fabric.reading.outcome import Gate, Reading, Report, Row, Tool, Transport, concluded, number
from llm_rollout.fabric.reading.perftest import GBITS, tool_of, transport

_LINE = re.compile(r'^\s*"?([A-Za-z_][\w .*]*?)"?\s*:\s*"?([^"]*?)"?\s*,?\s*$')
_TEST = re.compile(r"(Send|RDMA_Write|RDMA_Read|Atomic)_(?:\w*_)?(BW|Latency)_")
_NAMES = {
    "MsgSize": "bytes", "n_iterations": "iterations", "sl": "sl", "BW_peak": "peak", "BW_average": "average",
    "MsgRate": "mpps", "t_min": "t_min_usec", "t_max": "t_max_usec", "t_typical": "t_typical_usec",
    "t_avg": "t_avg_usec", "t_stdev": "t_stdev_usec", "percentile_99": "p99_usec", "percentile_99.9": "p99_9_usec",
    "tps_average": "tps", "CPU_util": "cpu_percent",
}  # fmt: skip
_UNITS = ("Gb/sec", "MiB/sec")
_SAME_WITHIN = 0.02
"""The units are 119 times apart; what is rounded away from the printed numbers is far less than this."""


def read(text: str) -> Reading:
    """The reading of a clean text that begins as JSON and names a perftest."""
    fields, closed = _fields(text)
    test = _TEST.search(str(fields.get("test", "")))
    tool: Tool = tool_of(test.group(1), test.group(2)) if test else "perftest"
    row = _row(fields)
    return concluded(
        Report(
            tool=tool,
            rows=[row] if row else [],
            whole=closed and bool(row.keys() & {"average", "t_avg_usec", "t_typical_usec"}),
            transport=_transport(fields),
            gate=_gate(row, both_ways="Bidirectional" in str(fields.get("test", ""))),
        )
    )


def _fields(text: str) -> tuple[dict[str, Any], bool]:
    """All names of both blocks with their values, and whether the last brace is there."""
    try:
        loaded = json.loads(text)
    except (ValueError, RecursionError):
        found = (_LINE.match(line) for line in table_lines(text))
        fields = {match.group(1).strip(): match.group(2) for match in found if match}
        return fields, text.count("{") == text.count("}") and text.rstrip().endswith("}")
    blocks = [loaded, *(loaded.get(name) for name in ("test_info", "results"))] if isinstance(loaded, dict) else []
    return {key: value for block in blocks if isinstance(block, Mapping) for key, value in block.items()}, True


def _row(fields: Mapping[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for name, key in _NAMES.items():
        value = fields.get(name)
        parsed = number(str(value)) if isinstance(value, str | int | float) and not isinstance(value, bool) else None
        if parsed is not None:
            row[key] = int(parsed) if key in {"bytes", "iterations", "sl"} and abs(parsed) < 2**63 else parsed
    if "average" in row:
        row["unit"] = _unit(row)
    return row


def _unit(row: Row) -> str | None:
    """The unit in which size times message rate is the average; None where too little is printed to tell."""
    gbps = row.get("bytes", 0) * row.get("mpps", 0.0) * 8e-3
    for unit in _UNITS:
        expected = gbps / GBITS[unit.lower()]
        if expected > 0 and abs(row["average"] - expected) <= _SAME_WITHIN * expected:
            return unit
    return None


def _gate(row: Row, *, both_ways: bool) -> Gate | None:
    if row.get("unit"):
        return Gate("gate_gbps", row["average"] * GBITS[row["unit"].lower()] / (2 if both_ways else 1))
    usec = row.get("t_avg_usec", row.get("t_typical_usec"))
    return None if usec is None else Gate("gate_usec", usec)


def _transport(fields: Mapping[str, Any]) -> Transport | None:
    names = {"Device": "Device", "Transport_type": "Transport type", "Link_type": "Link type"}
    lines = [f"{shown} : {fields[name]}" for name, shown in names.items() if fields.get(name)]
    return transport("\n".join(lines), lines)
