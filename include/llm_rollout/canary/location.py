"""Times that are longer as a whole: to the first token, between tokens, and of a request by token."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import log
from typing import Any

from llm_rollout.canary import bets
from llm_rollout.canary.rounds import Counts
from llm_rollout.canary.rules import Rules
from llm_rollout.canary.times import Seen, Times, normal_score

FAST_TOLERANCE = 1.5
FAST_SHARE = 0.1
"""Of the weight of TTFT, for bets that count from the first pair: what is half as long again is no warm-up."""


@dataclass(frozen=True)
class Location:
    """The pots on one kind of time: "longer than tolerated" and "shorter than the margin", both by normal scores."""

    rules: Rules
    name: str
    ratios: Callable[[Times], list[float]]
    has_fast: bool = False

    def new(self) -> dict[str, Any]:
        """The pots before the first round."""
        kinds = ("longer", "fast") if self.has_fast else ("longer",)
        return {**{kind: bets.Staggered() for kind in kinds}, "promote": bets.NEW}

    def after(self, pots: Mapping[str, Any], seen: Seen) -> dict[str, Any]:
        """The pots after a round; one without times says nothing."""
        ratios, changed = self.ratios(seen.times), dict(pots)
        if self.has_fast and (all_ratios := self.ratios(seen.first) + ratios):
            changed["fast"] = bets.play_score(pots["fast"], normal_score(all_ratios, log(FAST_TOLERANCE)))
        if not ratios:
            return changed
        tolerated = log(self.rules.tolerance[self.name])
        changed["longer"] = bets.play_score(pots["longer"], normal_score(ratios, tolerated))
        if seen.healthy:
            margin = log(self.rules.margin[self.name])
            changed["promote"] = bets.play_round(pots["promote"], -normal_score(ratios, margin), bets.PATIENT)
        return changed

    def worse(self, pots: Mapping[str, Any], totals: Counts) -> float:
        """Wealth of the bets that the candidate takes longer."""
        del totals
        steady = bets.lasting_worth(pots["longer"])
        if not self.has_fast:
            return steady
        return (1 - FAST_SHARE) * steady + FAST_SHARE * bets.lasting_worth(pots["fast"])

    def not_worse(self, pots: Mapping[str, Any], totals: Counts) -> float:
        """Wealth of the bets that the candidate does not take longer by the margin."""
        del totals
        return bets.worth(pots["promote"])
