"""Play the whole table, compare with the plain rule, and print both.

Every failure goes through the real steps on a devcluster of its own: plan_rollout, create_group, await_cold_start.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.coldstart.failures import TABLE
from benchmarks.coldstart.site import Outcome, Site, temporary_home
from devcluster.hub.models import TINY_CHAT, bundled

LEAST_RIGHT = 29 / 30
MOST_MEDIAN_SECONDS, MOST_SECONDS = 5.0, 15.0
KUBELETS = {"DEVCLUSTER_BACKOFF_SECONDS": "10"}
"""As long as a real kubelet waits before it starts a crashed container again."""
PLAIN = ("unknown flag, worker", "no such image, worker", "OOM-killed while loading, worker")
PLAIN_SECONDS = 30.0
_COLUMNS = ("failure", "class", "first on", "right", "s to verdict", "s since create", "kept", "starts")
_PLAIN_COLUMNS = ("failure", "the plain rule says", "after s")
STUDY = Path(__file__).parents[2] / "docs" / "studies" / "cold-start-failures.md"
Results = dict[str, Outcome]


def main() -> int:
    """Print the tables; 1 where a goal is missed."""
    options = _parser().parse_args()
    chosen = [name for name in TABLE if not options.only or any(word in name for word in options.only)]
    evidence = Path(options.evidence or tempfile.mkdtemp(prefix="coldstart-"))
    with site(evidence) as found:
        results = play(found, chosen, options.side_by_side)
        plain = play_plain(found, () if options.only else PLAIN)
    _print("Failed cold starts on the devcluster", _COLUMNS, _rows(results))
    print(_summary(results))
    if plain:
        _print(f"Available, or {PLAIN_SECONDS:.0f} s", _PLAIN_COLUMNS, _plain_rows(plain))
    if options.write:
        _write(results, plain)
    if not options.evidence:
        shutil.rmtree(evidence)
    return 0 if _met(results) else 1


def play(where: Site, chosen: Sequence[str], side_by_side: int) -> Results:
    """Play rows, several at a time; those that take a node away come alone, and last."""
    numbers = {name: number for number, name in enumerate(TABLE)}
    together = [name for name in chosen if not TABLE[name].fails_node]
    with ThreadPoolExecutor(side_by_side) as pool:
        found = dict(
            zip(together, pool.map(lambda name: where.play(numbers[name], TABLE[name]), together), strict=True)
        )
    alone = {name: where.play(numbers[name], TABLE[name]) for name in chosen if TABLE[name].fails_node}
    return found | alone


def play_plain(where: Site, chosen: Sequence[str]) -> dict[str, tuple[str, float]]:
    """The same failures for who waits for Available; for all others it is the deadline by its definition."""
    with ThreadPoolExecutor(len(PLAIN)) as pool:
        said = pool.map(lambda at: where.plain(90 + at, TABLE[chosen[at]], PLAIN_SECONDS), range(len(chosen)))
        return dict(zip(chosen, said, strict=True))


@contextmanager
def site(evidence: Path) -> Iterator[Site]:
    """A devcluster for the length of the block, with the bundled model; what is kept goes to ``evidence``."""
    home = temporary_home()
    command = [sys.executable, "-m", "devcluster", "--home", str(home), "up", "--foreground"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | KUBELETS) as process:
        try:
            for line in process.stdout or ():
                if line.startswith("ready"):
                    break
            yield Site(home, bundled() / TINY_CHAT / "v1", evidence)
        finally:
            process.terminate()
            process.communicate(timeout=120)
            shutil.rmtree(home, ignore_errors=True)


def _print(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    table = Table(*columns, title=title)
    for row in rows:
        table.add_row(*row)
    Console(width=160).print(table)


def _markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _rows(results: Results) -> list[tuple[str, ...]]:
    return [
        (name, found.named, found.pod.split("-", 2)[-1], _word(found.right), f"{found.seconds:.1f}",
         f"{found.since_start:.1f}", _word(found.kept), str(found.generations))
        for name, found in results.items()
    ]  # fmt: skip


def _plain_rows(plain: dict[str, tuple[str, float]]) -> list[tuple[str, ...]]:
    return [(name, said, f"{seconds:.1f}") for name, (said, seconds) in plain.items()]


def _summary(results: Results) -> str:
    times = sorted(found.seconds for found in results.values())
    right = sum(found.right for found in results.values())
    kept = sum(found.kept for found in results.values())
    most = max(found.generations for found in results.values())
    median = f"median {statistics.median(times):.1f}, worst {times[-1]:.1f}"
    return (
        f"{right} of {len(results)} right; seconds to the verdict: {median}; evidence kept {kept}; most starts {most}"
    )


def _write(results: Results, plain: dict[str, tuple[str, float]]) -> None:
    """Put the figures below the mark of the study."""
    prose, mark, _ = STUDY.read_text().partition("<!-- figures -->\n")
    tables = f"{_markdown(_COLUMNS, _rows(results))}\n{_markdown(_PLAIN_COLUMNS, _plain_rows(plain))}"
    STUDY.write_text(f"{prose}{mark}\n{_summary(results)}.\n\n{tables}")


def _word(truth: object) -> str:
    return "yes" if truth else "NO"


def _met(results: Results) -> bool:
    times = [found.seconds for found in results.values()]
    right = sum(found.right for found in results.values()) / len(results)
    in_time = statistics.median(times) <= MOST_MEDIAN_SECONDS and max(times) <= MOST_SECONDS
    return right >= LEAST_RIGHT and in_time and all(found.generations <= 1 for found in results.values())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.coldstart", description=__doc__)
    parser.add_argument("--side-by-side", type=int, default=3, help="rows at a time, default: %(default)s")
    parser.add_argument("--only", nargs="+", help="rows whose name holds one of these")
    parser.add_argument("--evidence", help="keep the evidence in this folder")
    parser.add_argument("--write", action="store_true", help="write the figures into the study in docs/studies")
    return parser


if __name__ == "__main__":
    began = time.monotonic()
    code = main()
    print(f"{time.monotonic() - began:.0f} s", file=sys.stderr)
    sys.exit(code)
