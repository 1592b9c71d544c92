"""Comparisons on a devcluster of their own, through the real steps: how they end, go on, and what users feel of them.

Ends with 1 where a goal is missed. Whatever else this machine does meanwhile shows in the times.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.evaluations import interruptions, playing, pressure, results, tables, weights
from benchmarks.evaluations.arena import Arena, devcluster
from benchmarks.evaluations.cases import CASES
from benchmarks.evaluations.interruptions import KINDS
from benchmarks.evaluations.pressure import SCENES
from benchmarks.evaluations.results import Results
from devcluster import models
from devcluster.layout import cache


def main() -> int:
    """Print the tables; 1 where a goal is missed."""
    options = _parser().parse_args()
    evidence = Path(options.evidence or tempfile.mkdtemp(prefix="evaluations-"))
    found = results.load(options.results)
    with arena(evidence) as where:
        for _ in _played(where, options, found):
            results.save(options.results, found)
    tables.show(found)
    if options.write:
        tables.write(found)
    if not options.evidence:
        shutil.rmtree(evidence)
    return 0 if tables.met(found) else 1


@contextmanager
def arena(evidence: Path) -> Iterator[Arena]:
    """A devcluster with all weights for the length of the block."""
    found = _weights(cache() / "models" / "evaluations")
    with devcluster(lambda text: print(text, flush=True)) as layout:
        yield Arena(layout.home, found, evidence)


def _weights(folder: Path) -> dict[str, Path]:
    """By name; built where there are none yet."""
    if not (folder / "worse" / "README.md").exists():
        models.build(folder)
        weights.build(folder / "worse")
    return {name: folder / name for name in (*models.VERSION_NAMES, "worse")}


def _played(where: Arena, options: argparse.Namespace, found: Results) -> Iterator[None]:
    """Play what is chosen and not there yet, and stop for a moment after each piece of it."""
    for number, (name, case) in enumerate(CASES.items()):
        before = found.ends.setdefault(name, [])
        if lacking := _lacking(name, options, case.runs, len(before)):
            for judged in playing.play(where, number, case, lacking, _say):
                before.append(judged)
                yield
    for number, (name, kind) in enumerate(KINDS.items()):
        if _lacking(f"interrupted: {name}", options, 1, name in found.interrupted):
            found.interrupted[name] = interruptions.play(where, number, kind, _say)
            yield
    for number, (name, flags) in enumerate(SCENES.items()):
        felt = found.users.setdefault(name, [])
        if lacking := _lacking(f"users: {name}", options, pressure.RUNS, len(felt)):
            for one in pressure.measure(where, number, flags, lacking, _say):
                felt.append(one)
                yield


def _lacking(name: str, options: argparse.Namespace, runs: int, there: int) -> int:
    """How many runs of a row there are to play."""
    chosen = not options.only or any(word in name for word in options.only)
    lacking = max(0, (options.runs or runs) - there) if chosen else 0
    if lacking:
        print(name, flush=True)
    return lacking


def _say(text: str) -> None:
    print(f"  {text}", flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.evaluations", description=__doc__)
    parser.add_argument("--only", nargs="+", metavar="ROW", help="rows whose name holds one of these")
    parser.add_argument("--runs", type=int, help="of each row (default: as in the study)")
    parser.add_argument("--results", type=Path, help="a file to go on from, and to keep what is found in")
    parser.add_argument("--evidence", help="keep the evidence in this folder")
    parser.add_argument("--write", action="store_true", help=f"put the tables that were played into {tables.PAGE}")
    return parser


if __name__ == "__main__":
    began = time.monotonic()
    code = main()
    print(f"{time.monotonic() - began:.0f} s", file=sys.stderr)
    sys.exit(code)
