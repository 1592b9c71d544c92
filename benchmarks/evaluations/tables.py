"""What was found, as tables: for the terminal, and for the study."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from benchmarks.evaluations import pressure
from benchmarks.evaluations.arena import Judged
from benchmarks.evaluations.cases import AS_GOOD, CASES, PROMOTE, ROLLBACK
from benchmarks.evaluations.interruptions import Disturbed
from benchmarks.evaluations.playing import spread
from benchmarks.evaluations.pressure import MOST_RISE, Felt
from benchmarks.evaluations.results import Results
from llm_rollout.canary.back_pressure import percentile

PAGE = Path(__file__).parents[2] / "docs" / "studies" / "canary-on-devcluster.md"
_LEAST_PROMOTED = 0.9
"""Of candidates as good as stable; in the judge's own study it is 98 % within 3,000 pairs."""
Rows = list[list[str]]


def show(results: Results) -> None:
    """Print what was played."""
    for title, rows in _tables(results).items():
        table = Table(*rows[0], title=title)
        for row in rows[1:]:
            table.add_row(*row)
        Console(width=None if sys.stdout.isatty() else 200).print(table)


def write(results: Results) -> None:
    """Put the tables in the place of those in the study, which stand between two marks each."""
    text = PAGE.read_text(encoding="utf-8")
    for title, rows in _tables(results).items():
        lines = ["| " + " | ".join(row) + " |" for row in rows]
        lines.insert(1, "|---" * len(rows[0]) + "|")
        before, mark, rest = text.partition(f"<!-- table: {title} -->\n")
        _, end, after = rest.partition("<!-- end -->")
        text = before + mark + "\n".join(lines) + "\n" + end + after
    PAGE.write_text(text, encoding="utf-8")


def met(results: Results) -> bool:
    """Whether all goals of what was played are."""
    ways = [one for some in results.interrupted.values() for one in some.values()]
    return (
        all(_ended_well(name, some) for name, some in results.ends.items())
        and all(map(_went_on, ways))
        and all(_felt_little(some) for some in results.users.values() if some)
    )


def _ended_well(name: str, some: Sequence[Judged]) -> bool:
    """All as they have to; of candidates as good, none is rolled back and nearly all are promoted."""
    promoted = sum(one.end == PROMOTE for one in some)
    enough = name != AS_GOOD or promoted >= _LEAST_PROMOTED * len(some)
    return all(map(CASES[name].is_right, some)) and enough


def _went_on(one: Disturbed) -> bool:
    return one.same and not one.twice


def _felt_little(some: Sequence[Felt]) -> bool:
    windows = [window for felt in some for window in felt]
    return pressure.middle_rise(some) <= MOST_RISE and not pressure.failed(windows)


def _tables(results: Results) -> dict[str, Rows]:
    found = {"Ends": _ends(results), "Interrupted": _interrupted(results), "Users": _users(results)}
    return {title: rows for title, rows in found.items() if len(rows) > 1}


def _ends(results: Results) -> Rows:
    rows = [["what is the matter", "what is right", "ended", "pairs", "seconds", "load", "goal"]]
    for name in CASES:
        if some := results.ends.get(name):
            ends = Counter(map(_end, some))
            rows.append([
                name,
                _right(name),
                ", ".join(f"{count} {end}" for end, count in ends.most_common()),
                spread([one.pairs for one in some]),
                spread([one.seconds for one in some]),
                spread([one.load for one in some]),
                _word(_ended_well(name, some)),
            ])  # fmt: skip
    return rows


def _right(name: str) -> str:
    case = CASES[name]
    named = f" ({' or '.join(case.metrics)})" if ROLLBACK in case.ends else ""
    return " or ".join(case.ends) + named


def _end(judged: Judged) -> str:
    return f"{judged.end} ({judged.metric})" if judged.metric else judged.end


def _interrupted(results: Results) -> Rows:
    head = ["candidate", "what happens", "Jobs", "ended", "pairs", "rounds counted twice", "requests answered"]
    rows = [[*head, "same end and pots", "seconds", "goal"]]
    for name, ways in results.interrupted.items():
        for way, one in ways.items():
            counts = [str(one.judged.pairs), str(one.twice), str(one.requests)]
            seconds = f"{one.judged.seconds:.0f}"
            same = "yes" if one.same else "no"
            rows.append([name, way, str(one.jobs), _end(one.judged), *counts, same, seconds, _word(_went_on(one))])
    return rows


def _users(results: Results) -> Rows:
    head = ["stable has", "candidate", "users' requests", "failed", "p50 in ms", "p99 in ms", "p99 over the rests"]
    rows = [[*head, "median", "pairs a minute", "load", "goal"]]
    played = {name: some for name, some in results.users.items() if some}
    return rows + [[name, *_felt(some, compared=way)] for name, some in played.items() for way in (False, True)]


def _felt(some: Sequence[Felt], *, compared: bool) -> list[str]:
    windows = [window for felt in some for window in felt if window.compared is compared]
    times = [one for window in windows for one in window.times]
    over = [one for felt in some for one in (pressure.rises(felt) if compared else pressure.noise(felt))]
    return [
        "compared" if compared else "rests",
        str(sum(len(window.requests) for window in windows)),
        str(pressure.failed(windows)),
        f"{percentile(times, 0.5):.0f}",
        f"{percentile(times, 0.99):.0f}",
        ", ".join(f"{one:.2f}" for one in over),
        f"{median(over):.2f}",
        f"{60 * median(window.pairs / window.seconds for window in windows):.0f}",
        spread([window.load for window in windows]),
        _word(_felt_little(some)) if compared else "",
    ]


def _word(met: bool) -> str:  # noqa: FBT001 - printed as it is
    return "met" if met else "MISSED"
