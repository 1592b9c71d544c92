"""What the judge holds a candidate against. The numbers come from simulated rollouts, good, bad and odd ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

WEIGHTS: Mapping[str, float] = MappingProxyType({"errors": 0.25, "quality": 0.14})
"""How the chance of a false rollback is shared out: wealth counts by these parts, brought to a sum of 1."""


MIN_ROUNDS = 7
"""No promotion before: a few rounds say nothing about an incident that lasts a few rounds."""


@dataclass(frozen=True)
class Rules:
    """Limits of one comparison. Shares are of 1, not percent."""

    alpha: float = 0.05
    """Chance of rolling back a candidate that is as good as stable: one in 20 where a person will look at it."""
    beta: float = 0.05
    """Chance of promoting a candidate that is worse by a margin."""
    round_pairs: int = 50
    """Smaller rounds are gathered up to it. A round must outlast whatever one side suffers alone."""
    max_pairs: int = 3000
    """Undecided after so many."""
    min_rounds: int = MIN_ROUNDS
    error_margin: float = 0.01
    """One request in 100 more that fails is the first difference that users report."""
    quality_margin: float = 0.03
    """Closer than that, 1,000 graded prompts do not tell two models apart."""
    absolute_error_limit: float = 0.05
    """Counts beside the comparison while stable is healthy: two sides that are equally bad do not excuse each other."""
    sick_share: float = 0.10
    """A round in which more of stable's requests fail says nothing in the candidate's favour."""
    tasks: int | None = None
    """Size of the task set if it can be graded as a whole; None for an open stream of prompts."""
    weights: Mapping[str, float] = field(default_factory=lambda: WEIGHTS)

    def weight(self, metric: str) -> float:
        """The metric's part of alpha."""
        return self.weights[metric] / sum(self.weights.values())

    @property
    def whole_set(self) -> bool:
        """Whether every task of the set will be graded before the cap: then differences are known, not estimated."""
        return self.tasks is not None and 0 < self.tasks <= self.max_pairs
