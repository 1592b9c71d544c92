"""Requests that fail: more of them than on stable, or more than anybody may have."""

from __future__ import annotations

from collections.abc import Mapping

from llm_rollout.canary import bets
from llm_rollout.canary.bets import NEW, STAKES, Pot
from llm_rollout.canary.rounds import Counts
from llm_rollout.canary.rules import Rules

NAME = "errors"
ABSOLUTE_SHARE = 0.2
"""Of this metric's weight, for the limit that holds whatever stable does."""

_MOST_IN_FAVOUR = 2
"""What stable alone fails counts at most so often in a round: a burst on stable proves nothing about the candidate."""
_LARGEST_FACTOR = 1 + bets.BOLDNESS


class ErrorRate:
    """The pots on failed requests."""

    name = NAME

    def __init__(self, rules: Rules) -> None:
        """Hold on to the limits."""
        self._rules = rules

    def new(self) -> dict[str, Pot]:
        """The pots before the first round."""
        return {"relative": NEW, "absolute": NEW, "promote": NEW}

    def after(self, pots: Mapping[str, Pot], seen: Counts) -> dict[str, Pot]:
        """The pots after a round."""
        healthy = seen.stable_failed <= self._rules.sick_share * seen.pairs
        return {
            "relative": bets.play_round(pots["relative"], seen.candidate_failed - seen.stable_failed),
            "absolute": self._absolute(pots["absolute"], seen) if healthy else pots["absolute"],
            "promote": self._promote(pots["promote"], seen) if healthy else pots["promote"],
        }

    def worse(self, pots: Mapping[str, Pot], totals: Counts) -> float:
        """Wealth of the bets that the candidate fails more often."""
        del totals
        relative, absolute = bets.worth(pots["relative"]), bets.worth(pots["absolute"])
        return (1 - ABSOLUTE_SHARE) * relative + ABSOLUTE_SHARE * absolute

    def not_worse(self, pots: Mapping[str, Pot], totals: Counts) -> float:
        """Wealth of the bets that the candidate does not fail more often by the margin."""
        del totals
        return bets.worth(pots["promote"])

    def _absolute(self, pot: Pot, seen: Counts) -> Pot:
        limit = self._rules.absolute_error_limit
        failed, answered = seen.candidate_failed, seen.pairs - seen.candidate_failed

        def factor(stake: float) -> float:
            return float((1 + stake) ** failed * (1 - stake * limit / (1 - limit)) ** answered)

        return bets.multiplied(pot, tuple(min(factor(stake), _LARGEST_FACTOR) for stake in STAKES))

    def _promote(self, pot: Pot, seen: Counts) -> Pot:
        worse, better = seen.only_candidate_failed, min(seen.only_stable_failed, _MOST_IN_FAVOUR)
        return bets.against_margin(pot, self._rules.error_margin, worse, better, seen.pairs - worse - better)
