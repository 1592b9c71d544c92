"""Read the file that nccl-tests' -J writes. Its ``env`` holds the whole environment, secrets too: never looked at."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from llm_rollout.fabric.reading import nccl_tests
from llm_rollout.fabric.reading.causes import Cause
from llm_rollout.fabric.reading.outcome import Reading, Report, Row, concluded, number

_NUMBERS = {"time": "time_usec", "cpu_time": "time_usec", "alg_bw": "algbw", "bus_bw": "busbw", "nwrong": "wrong"}


def read(text: str) -> Reading:
    """The reading of a clean text. The tool closes its braces after a failure too, so the footer must be there."""
    try:
        loaded = json.loads(text)
    except (ValueError, RecursionError):
        loaded = None
    if not isinstance(loaded, dict):
        return concluded(Report("nccl-tests"))
    results = loaded.get("results")
    rows = [row for result in results if (row := _row(result))] if isinstance(results, list) else []
    bounds, average = loaded.get("out_of_bounds"), loaded.get("average_bus_bandwidth")
    causes = [*nccl_tests.wrong_rows(rows)]
    if isinstance(bounds, dict) and (str(bounds.get("okay")).lower() != "true" or bounds.get("count")):
        causes.append(Cause("wrong-data", f"out of bounds: {bounds.get('count')}"))
    if isinstance(average, dict) and str(average.get("okay")).lower() == "false":
        causes.append(Cause("other", "below the limit of NCCL_TESTS_MIN_BW"))
    if loaded.get("errors"):
        causes.append(Cause("other", "errors are listed"))
    whole = isinstance(bounds, dict) and isinstance(average, dict) and bool(rows)
    return concluded(Report("nccl-tests", rows, causes, whole, gate=nccl_tests.gate(rows)))


def _row(result: Any) -> Row | None:
    size = result.get("size") if isinstance(result, Mapping) else None
    if not isinstance(size, int):
        return None
    root = result.get("root")
    return {
        "bytes": size,
        "count": _number(result.get("count")),
        "type": _word(result.get("type")),
        "redop": _word(result.get("redop")),
        "root": _number(root.strip() if isinstance(root, str) else root),
        "out_of_place": _side(result.get("out_of_place")),
        "in_place": _side(result.get("in_place")),
    }


def _side(values: Any) -> dict[str, float | None] | None:
    """A number that is not one stands there as the word nan."""
    if not isinstance(values, Mapping):
        return None
    return dict.fromkeys(_NUMBERS.values()) | {
        key: _number(values[name]) for name, key in _NUMBERS.items() if name in values
    }


def _number(value: Any) -> float | None:
    return number(str(value)) if isinstance(value, str | int | float) and not isinstance(value, bool) else None


def _word(value: Any) -> str | None:
    return value[:16] if isinstance(value, str) else None
