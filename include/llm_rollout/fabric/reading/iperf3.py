"""Read iperf3, as text or as JSON. It measures TCP, so by the rule for all tools its runs are no RDMA runs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from llm_rollout.fabric.reading import causes
from llm_rollout.fabric.reading.causes import Cause, sign
from llm_rollout.fabric.reading.lines import table_lines
from llm_rollout.fabric.reading.outcome import Reading, Report, Row, concluded, number

_ROW = re.compile(
    r"^\s*\[\s*(\d+|SUM)\]\s+([\d.]+)-\s*([\d.]+)\s+sec\s+[\d.]+ [KMGT]?Bytes\s+([\d.]+) ([KMGT]?)bits/sec(.*)$"
)
_SCALES = {"": 1e-9, "K": 1e-6, "M": 1e-3, "G": 1.0, "T": 1e3}
SIGNS = (
    sign("oob", "unable to connect"),
    sign("oob", "control socket has closed"),
    sign("oob", "unable to receive", r"unable to receive (?:control message|results|parameters)"),
    sign("oob", "unable to start listener"),
    sign("other", "iperf3: error", r"iperf3: error - [^\n]{0,200}"),
    *causes.SHARED,
)


def read(text: str) -> Reading:
    """The reading of a clean text: over sockets, so never ok."""
    rows = [row for line in table_lines(text) if (row := _row(line))]
    whole = "iperf Done." in text and any(row["side"] for row in rows)
    return _concluded(rows, list(causes.found(text, SIGNS)), whole=whole)


def read_json(text: str) -> Reading:
    """The reading of what --json prints."""
    try:
        loaded = json.loads(text)
    except (ValueError, RecursionError):
        loaded = None
    if not isinstance(loaded, dict):
        return _concluded([], [], whole=False)
    failed = [Cause("other", str(loaded["error"])[:200])] if loaded.get("error") else []
    failed = [*causes.found(str(loaded.get("error", "")), SIGNS)] or failed
    rows = list(_sums(loaded.get("end")))
    return _concluded(rows, failed, whole=bool(rows))


def _concluded(rows: list[Row], failed: list[Cause], *, whole: bool) -> Reading:
    """A run that never came about, or was cut, is called so; only a whole one is called a run over sockets."""
    if cause := causes.first(failed):
        return Reading("iperf3", "failed", rows, None, cause.error_class, "socket")
    if not whole:
        return Reading("iperf3", "unreadable", rows, None, "truncated", "socket")
    return concluded(Report("iperf3", rows, whole=True, transport="socket"))


def _row(line: str) -> Row | None:
    found = _ROW.match(line)
    if found is None:
        return None
    stream, _, end, rate, scale, rest = found.groups()
    side = next((word for word in ("sender", "receiver") if word in rest), None)
    return {"stream": stream, "seconds": end, "gbps": float(rate) * _SCALES[scale], "side": side}


def _sums(end: Any) -> Iterator[Row]:
    for side in ("sent", "received"):
        total = end.get(f"sum_{side}") if isinstance(end, Mapping) else None
        rate = number(str(total.get("bits_per_second"))) if isinstance(total, Mapping) else None
        if rate is not None:
            yield {"stream": "SUM", "gbps": rate / 1e9, "side": "sender" if side == "sent" else "receiver"}
