"""Many runs of a judge in a world."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from statistics import median

from benchmarks.canary import peers
from benchmarks.canary.worlds import World
from llm_rollout.canary.judge import Judge
from llm_rollout.canary.rounds import Pair
from llm_rollout.canary.rules import Rules

OURS = "llm-rollout"
Rule = Callable[[Iterator[list[Pair]]], tuple[str, int]]


@dataclass
class Tally:
    """Ends of runs, and after how many pairs."""

    ends: Counter[str] = field(default_factory=Counter)
    pairs: dict[str, list[int]] = field(default_factory=dict)
    metrics: Counter[str] = field(default_factory=Counter)

    @property
    def runs(self) -> int:
        """How many."""
        return self.ends.total()

    def percent(self, end: str) -> float:
        """Part of the runs that ended so."""
        return 100 * self.ends[end] / self.runs

    def median_pairs(self, end: str) -> float | None:
        """Of the runs that ended so."""
        return median(self.pairs[end]) if self.pairs.get(end) else None


def ours(rounds: Iterator[list[Pair]]) -> tuple[str, int]:
    """The shipped rules."""
    judge = Judge(Rules())
    standing = judge.begin()
    for pairs in rounds:
        standing = judge.after(standing, pairs)
        if standing.decision.outcome != "continue":
            break
    return standing.decision.outcome, standing.totals.pairs


RULES: dict[str, Rule] = {OURS: ours, **peers.RULES}


def study(task: tuple[str, World, int]) -> tuple[str, str, Tally]:
    """The tally of so many runs, from fixed seeds: every rule sees the same rollouts."""
    rule, world, runs = task
    tally = Tally()
    for seed in range(runs):
        end, pairs = RULES[rule](world.rounds(seed))
        tally.ends[end] += 1
        tally.pairs.setdefault(end, []).append(pairs)
    return rule, world.name, tally
