"""What was found so far, in a file: comparisons take minutes, and a study of many may go on where it was cut."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.evaluations.arena import Judged
from benchmarks.evaluations.interruptions import Disturbed
from benchmarks.evaluations.pressure import Window
from benchmarks.evaluations.users import Request


@dataclass
class Results:
    """By row."""

    ends: dict[str, list[Judged]] = field(default_factory=dict)
    interrupted: dict[str, dict[str, Disturbed]] = field(default_factory=dict)
    users: dict[str, list[list[Window]]] = field(default_factory=dict)


def load(path: Path | None) -> Results:
    """What stands in a file; nothing where there is none yet."""
    if path is None or not path.exists():
        return Results()
    value = json.loads(path.read_text())
    return Results(
        {name: [Judged(**one) for one in some] for name, some in value["ends"].items()},
        {
            name: {way: Disturbed(Judged(**one.pop("judged")), **one) for way, one in ways.items()}
            for name, ways in value["interrupted"].items()
        },
        {name: [[_window(one) for one in felt] for felt in some] for name, some in value["users"].items()},
    )


def save(path: Path | None, results: Results) -> None:
    """Replace the file in one step."""
    if path is not None:
        beside = path.with_suffix(".new")
        beside.write_text(json.dumps(asdict(results)) + "\n")
        beside.replace(path)


def _window(value: dict[str, Any]) -> Window:
    return Window(**{**value, "requests": [Request(**one) for one in value["requests"]]})
