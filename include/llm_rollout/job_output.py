"""What a Job of this project prints: one JSON object a line, the report or the error last."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class JobOutput:
    """The parsed end of a Job's log. Each part is the last of its sort, empty when there was none."""

    report: Mapping[str, Any] = field(default_factory=dict)
    error: Mapping[str, Any] = field(default_factory=dict)
    progress: Mapping[str, Any] = field(default_factory=dict)
    other: tuple[str, ...] = ()
    """Lines that are not ours, such as a traceback."""


def parse(text: str) -> JobOutput:
    """Read a log's tail; its first line may be cut and foreign lines may be mixed in."""
    last: dict[str, dict[str, Any]] = {}
    other = []
    for line in text.splitlines():
        event = _event(line)
        if event is None:
            other.append(line)
        else:
            last[event.pop("event")] = event
    return JobOutput(last.get("report", {}), last.get("error", {}), last.get("progress", {}), tuple(other))


def _event(line: str) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) and isinstance(value.get("event"), str) else None
