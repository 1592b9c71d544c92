"""What judges of canaries decide on simulated rollouts: ours beside Flagger's, Argo's, Kayenta's rules and a t-test.

Every world is drawn from fixed seeds, so that a run can be repeated; all rules see the same pairs, at most 3,000. Ends
with 1 where a goal is missed.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from multiprocessing import Pool
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.canary.kept import Kept
from benchmarks.canary.study import OURS, RULES, Results, Tally, Task, study
from benchmarks.canary.worlds import HIDDEN, HOLD, NULLS, QUIET, REGRESSIONS, WORSE, World

PAGE = Path("docs/studies/canary-judge.md")
_FULL = {"nulls": 3000, "regressions": 1500, "odd": 1000, "peers": 600}
_SHORT = {"nulls": 100, "regressions": 50, "odd": 25, "peers": 25}
_AT_ONCE = 25
"""Runs that a process plays before it takes others."""
_MOST_FALSE, _LEAST_FOUND, _MOST_WRONG, _MOST_PAIRS = 3.0, 97.0, 5.0, 1200
Rows = list[list[str]]


def main() -> int:
    """Print the tables; 1 where a goal is missed."""
    options = _parser().parse_args()
    began = time.monotonic()
    results = _play(_FULL if options.full else _SHORT, options.processes, Kept(options.keep))
    tables = {
        "Standard worlds": _standard(results),
        "Odd worlds": _odd(results),
        "Goals": _goals(results),
    }
    for title, rows in tables.items():
        _show(title, rows)
    if options.write:
        _write(tables)
    print(f"{time.monotonic() - began:.0f} s", file=sys.stderr)
    return 0 if all(row[-1] == "met" for row in tables["Goals"][1:]) else 1


def _play(runs: Mapping[str, int], processes: int, kept: Kept) -> Results:
    results: dict[tuple[str, str], Tally] = {}
    new = []
    for task in _tasks(runs):
        if (found := kept.found(task)) is None:
            new.append(task)
        else:
            _join(results, found)
    with Pool(processes) as pool:
        for task, found in pool.imap_unordered(study, new):
            kept.keep(task, found)
            _join(results, found)
    return results


def _tasks(runs: Mapping[str, int]) -> Iterator[Task]:
    """Ours first: the rules of peers take longer."""
    peers = tuple(rule for rule in RULES if rule != OURS)
    for rules, worlds, number in (
        ((OURS,), NULLS, runs["nulls"]),
        ((OURS,), REGRESSIONS, runs["regressions"]),
        ((OURS,), (*QUIET, *WORSE, *HIDDEN, *HOLD), runs["odd"]),
        (peers, (*NULLS, *REGRESSIONS), runs["peers"]),
    ):
        for world in worlds:
            for start in range(0, number, _AT_ONCE):
                yield rules, world, range(start, min(start + _AT_ONCE, number))


def _join(results: dict[tuple[str, str], Tally], found: Results) -> None:
    for key, tally in found.items():
        results.setdefault(key, Tally()).join(tally)


def _standard(results: Results) -> Rows:
    """A rule a row: rolled back, in % of the runs, and after how many pairs."""
    head = ["rule", *(f"{world.name}: rolled back" for world in (*NULLS, *REGRESSIONS))]
    rows = [[*head, "promoted though worse, most", "A/A: promoted", "runs of a world without, with a difference"]]
    for rule in RULES:
        nulls = [f"{results[rule, world.name].percent('rollback'):.1f}" for world in NULLS]
        worse = [_at(results[rule, world.name], "rollback") for world in REGRESSIONS]
        wrong = max(results[rule, world.name].percent("promote") for world in REGRESSIONS)
        runs = ", ".join(f"{min(results[rule, each.name].runs for each in one)}" for one in (NULLS, REGRESSIONS))
        rows.append([rule, *nulls, *worse, f"{wrong:.1f}", _at(results[rule, NULLS[0].name], "promote"), runs])
    return rows


def _odd(results: Results) -> Rows:
    rows = [["world", "what is right", "rolled back", "promoted", "undecided", "runs"]]
    kinds = ("no rollback", QUIET), ("rollback", WORSE), ("no promotion", HIDDEN), ("hold", HOLD)
    for right, worlds in kinds:
        for world in worlds:
            tally = results[OURS, world.name]
            ends = [_at(tally, "rollback"), _at(tally, "promote"), f"{tally.percent('undecided'):.1f}"]
            rows.append([world.name, right, *ends, f"{tally.runs}"])
    return rows


def _goals(results: Results) -> Rows:
    def most(end: str, worlds: Sequence[World]) -> float:
        return max(results[OURS, world.name].percent(end) for world in worlds)

    found, odd = (
        min(results[OURS, world.name].percent("rollback") for world in worlds) for worlds in (REGRESSIONS, WORSE)
    )
    pairs = results[OURS, NULLS[0].name].median_pairs("promote") or float("inf")
    return [
        ["goal", "limit", "found", ""],
        _goal("rolled back though as good, the worst world", most("rollback", NULLS), f"at most {_MOST_FALSE:g} %"),
        [
            "regressions found, the worst world",
            f"at least {_LEAST_FOUND:g} %",
            f"{found:.1f} %",
            _met(found >= _LEAST_FOUND),
        ],
        _goal("promoted though worse, the worst world", most("promote", REGRESSIONS), f"at most {_MOST_WRONG:g} %"),
        ["pairs to promote, median", f"at most {_MOST_PAIRS}", f"{pairs:.0f}", _met(pairs <= _MOST_PAIRS)],
        _goal("quiet odd worlds rolled back, the worst", most("rollback", QUIET), f"at most {_MOST_FALSE:g} %"),
        ["odd regressions found, the worst", f"at least {_LEAST_FOUND:g} %", f"{odd:.1f} %", _met(odd >= _LEAST_FOUND)],
        _goal(
            "regressions hidden by chance promoted, the worst", most("promote", HIDDEN), f"at most {_MOST_WRONG:g} %"
        ),
        _goal("worlds without evidence decided, the worst", 100 - _held(results, HOLD), f"at most {_MOST_WRONG:g} %"),
    ]


def _held(results: Results, worlds: Iterable[World]) -> float:
    return min(results[OURS, world.name].percent("undecided") for world in worlds)


def _goal(what: str, found: float, limit: str) -> list[str]:
    most = float(re.findall(r"[\d.]+", limit)[0])
    return [what, limit, f"{found:.1f} %", _met(found <= most)]


def _met(met: bool) -> str:  # noqa: FBT001 - printed as it is
    return "met" if met else "MISSED"


def _at(tally: Tally, end: str) -> str:
    pairs = tally.median_pairs(end)
    return f"{tally.percent(end):.1f}" + (f" @{pairs:.0f}" if pairs is not None else "")


def _show(title: str, rows: Rows) -> None:
    table = Table(title=title)
    for name in rows[0]:
        table.add_column(name)
    for row in rows[1:]:
        table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else 220).print(table)


def _write(tables: Mapping[str, Rows]) -> None:
    """Put the tables in the place of those in the study, which stand between two marks each."""
    text = PAGE.read_text(encoding="utf-8")
    for title, rows in tables.items():
        lines = ["| " + " | ".join(row) + " |" for row in rows]
        lines.insert(1, "|---" * len(rows[0]) + "|")
        mark = f"<!-- table: {title} -->"
        before, _, rest = text.partition(mark)
        _, _, after = rest.partition("<!-- end -->")
        text = f"{before}{mark}\n" + "\n".join(lines) + f"\n<!-- end -->{after}"
    PAGE.write_text(text, encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.canary", description=__doc__)
    parser.add_argument("--full", action="store_true", help=f"as in the study: {_FULL}, instead of {_SHORT}")
    parser.add_argument("--write", action="store_true", help=f"put the tables into {PAGE}")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="holds what was found, to go on from")
    parser.add_argument("--processes", type=int, default=2, help="at once (%(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
