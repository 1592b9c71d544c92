"""Many runs of a judge in a world."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import median

from benchmarks.canary import peers
from benchmarks.canary.worlds import World
from llm_rollout.canary.judge import Judge
from llm_rollout.canary.rounds import Pair
from llm_rollout.canary.rules import Rules

OURS = "llm-rollout"
FIRST_SEED = 100_000
"""The limits of the judge were chosen on other rollouts."""


@dataclass
class Tally:
    """After how many pairs runs ended, by how they ended."""

    pairs: dict[str, list[int]] = field(default_factory=dict)

    def add(self, end: str, pairs: int) -> None:
        """One run more."""
        self.pairs.setdefault(end, []).append(pairs)

    def join(self, other: Tally) -> None:
        """The runs of another tally more."""
        for end, pairs in other.pairs.items():
            self.pairs.setdefault(end, []).extend(pairs)

    @property
    def runs(self) -> int:
        """How many."""
        return sum(map(len, self.pairs.values()))

    def ends(self, end: str) -> int:
        """How many ended so."""
        return len(self.pairs.get(end, ()))

    def percent(self, end: str) -> float:
        """Part of the runs that ended so."""
        return 100 * self.ends(end) / self.runs

    def median_pairs(self, end: str) -> float | None:
        """Of the runs that ended so."""
        return median(self.pairs[end]) if self.ends(end) else None


def ours(rounds: Iterable[list[Pair]]) -> peers.End:
    """The shipped rules."""
    judge = Judge(Rules())
    standing = judge.begin()
    for pairs in rounds:
        standing = judge.after(standing, pairs)
        if standing.decision.outcome != "continue":
            break
    return standing.decision.outcome, standing.totals.pairs


RULES: dict[str, peers.Rule] = {OURS: ours, **peers.RULES}


Task = tuple[tuple[str, ...], World, range]
"""Rules, where they judge, and the seeds."""
Results = Mapping[tuple[str, str], Tally]
"""By rule and world."""


def study(task: Task) -> tuple[Task, Results]:
    """The tally of each rule over one run for each seed: every rule sees the same rollouts."""
    rules, world, seeds = task
    tallies = {(rule, world.name): Tally() for rule in rules}
    for seed in seeds:
        rounds = list(world.rounds(FIRST_SEED + seed))
        for rule in rules:
            tallies[rule, world.name].add(*RULES[rule](rounds))
    return task, tallies
