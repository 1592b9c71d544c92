"""What the judge holds a candidate against. The numbers come from simulated rollouts, good, bad and odd ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType

METRICS = ("errors", "ttft", "tail", "itl", "throughput", "quality")

WEIGHTS: Mapping[str, float] = MappingProxyType(
    {"errors": 0.3, "ttft": 0.42, "tail": 0.16, "quality": 0.09, "itl": 0.02, "throughput": 0.01}
)
"""How the chance of a false rollback is shared out: wealth counts by these parts, brought to a sum of 1.

The most goes to what is hardest to see: a TTFT that is a tenth longer, and two failures in a hundred. Time between
tokens and throughput are steady where nothing is wrong, so that little is needed to see a change."""

REQUIRED = ("errors", "ttft", "tail", "itl", "quality")
"""What users notice. Throughput follows from TTFT and the time between tokens."""

TOLERANCE: Mapping[str, float] = MappingProxyType(
    {"errors": 0.0, "quality": 0.0, "ttft": 1.02, "tail": 1.05, "itl": 1.05, "throughput": 1.05}
)
"""A difference up to here is no reason to roll back. Hosts of one kind differ by 2 %, tails and steps by 5 %; of
errors and wrong answers nobody is owed more than before."""

MARGIN: Mapping[str, float] = MappingProxyType(
    {"errors": 0.01, "quality": 0.03, "ttft": 1.10, "p95": 1.25, "p99": 1.5, "itl": 1.15, "throughput": 1.15}
)
"""A promotion proves that the candidate is not worse by so much. One request in 100 more that fails is the first
difference that users report; closer than 3 points, 1,000 graded prompts do not tell two models apart; a tenth more
TTFT is a reason to look, and the rarer a slow request, the less exactly it can be known."""


MIN_ROUNDS = 7
"""No promotion before: a few rounds say nothing about an incident that lasts a few rounds."""


@dataclass(frozen=True)
class Rules:
    """Limits of one comparison. Shares are of 1, not percent; times are ratios of the candidate's to stable's."""

    alpha: float = 0.05
    """Chance of rolling back a candidate that is as good as stable: one in 20 where a person will look at it."""
    beta: float = 0.05
    """Chance of promoting a candidate that is worse by a margin."""
    round_pairs: int = 50
    """Smaller rounds are gathered up to it. A round must outlast whatever one side suffers alone."""
    cap_pairs: int = 3000
    """Undecided after so many: twice what nearly all decisions take."""
    min_rounds: int = MIN_ROUNDS
    warmup_pairs: int = 250
    """The first pairs whose times do not count: a new server compiles, captures graphs and fills its caches."""
    required: tuple[str, ...] = REQUIRED
    """A promotion takes proof of each of these; without data there is none."""
    weights: Mapping[str, float] = field(default_factory=lambda: WEIGHTS)
    tolerance: Mapping[str, float] = field(default_factory=lambda: TOLERANCE)
    margin: Mapping[str, float] = field(default_factory=lambda: MARGIN)
    history: Mapping[str, float] = field(default_factory=dict)
    """Stable's known p90, p95 and p99 of TTFT in milliseconds: its own latest requests where this is empty."""
    absolute_error_limit: float = 0.05
    """Counts beside the comparison while stable is healthy: two sides that are equally bad do not excuse each other."""
    sick_share: float = 0.10
    """A round in which more of stable's requests fail says nothing in the candidate's favour, nor does the next."""
    tasks: int | None = None
    """Size of the task set if it can be graded as a whole; None for an open stream of prompts."""

    def weight(self, metric: str) -> float:
        """The metric's part of alpha."""
        return self.weights.get(metric, 0.0) / self._all_weights

    @cached_property
    def _all_weights(self) -> float:
        return sum(self.weights.values())

    @property
    def whole_set(self) -> bool:
        """Whether every task of the set will be graded before the cap: then differences are known, not estimated."""
        return self.tasks is not None and 0 < self.tasks <= self.cap_pairs
