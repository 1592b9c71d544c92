"""How many rounds a second ``llm-rollout judge`` takes on one core, beside what only reads the same lines as JSON.

Rollouts of 25 rounds each, both sides alike and one request in 200 failed, so that nearly every round is judged and few
repeat a decision. Both take turns; the seconds are of the processor, start included. Other programs on the machine slow
both, so the ratio of a run says more than its seconds. Ends with 1 where the median misses the goal.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import IO, Any

GOAL = 2000
"""Rounds a second."""
ROUNDS_A_ROLLOUT = 25
FAILED, RIGHT = 1 / 200, 0.9
"""Shares of the requests, and of the answers."""
JUDGE = ("-m", "llm_rollout", "judge")
READER = ("-c", "import json, sys\nfor line in sys.stdin.buffer:\n    json.loads(line)")


def main() -> int:
    """Print both; 1 where the goal is missed."""
    options = _parser().parse_args()
    with tempfile.TemporaryFile() as lines:
        lines.writelines(_line(number, options.pairs) for number in range(options.rounds))
        turns = [(_cpu_seconds(JUDGE, lines), _cpu_seconds(READER, lines)) for _ in range(options.runs)]
    judge, reader = (statistics.median(column) for column in zip(*turns, strict=True))
    fastest, slowest = (options.rounds / pick(one for one, _ in turns) for pick in (min, max))
    print(f"{options.rounds} rounds of {options.pairs} pairs, median of {options.runs} runs")
    print(f"llm-rollout judge  {judge:6.2f} s  {options.rounds / judge:5.0f} rounds/s ({slowest:.0f} to {fastest:.0f})")
    print(f"reading alone      {reader:6.2f} s  {options.rounds / reader:5.0f} rounds/s")
    print(f"judge over reading {judge / reader:6.2f}")
    return 0 if options.rounds / judge >= GOAL else 1


def _line(number: int, pairs: int) -> bytes:
    chance = random.Random(number)
    both = [{"stable": _answer(chance), "candidate": _answer(chance)} for _ in range(pairs)]
    return json.dumps({"rollout": f"rollout-{number // ROUNDS_A_ROLLOUT}", "pairs": both}).encode() + b"\n"


def _answer(chance: random.Random) -> dict[str, Any]:
    if chance.random() < FAILED:
        return {"ok": False}
    ttft_ms, rest_ms = chance.lognormvariate(5.7, 0.5), chance.lognormvariate(7.6, 0.2)
    times = {"ttft_ms": round(ttft_ms, 1), "total_ms": round(ttft_ms + rest_ms, 1)}
    return {"ok": True, **times, "tokens": 64, "correct": chance.random() < RIGHT}


def _cpu_seconds(program: Sequence[str], lines: IO[bytes]) -> float:
    lines.seek(0)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *program], stdin=lines, stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.judging", description=__doc__)
    parser.add_argument("--rounds", type=int, default=10_000, help="lines (default: %(default)s)")
    parser.add_argument("--pairs", type=int, default=50, help="of each round (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=5, help="of each program (default: %(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
