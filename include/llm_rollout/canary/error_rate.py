"""Requests that fail: more of them than on stable, or more than anybody may have."""

from __future__ import annotations

from collections.abc import Mapping

from llm_rollout.canary import bets
from llm_rollout.canary.bets import NEW, STAKES, Pot
from llm_rollout.canary.rounds import Counts
from llm_rollout.canary.rules import Rules
from llm_rollout.canary.times import Seen

NAME = "errors"
ABSOLUTE_SHARE = 0.1
"""Of this metric's weight, for the limit that holds whatever stable does."""

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

    def after(self, pots: Mapping[str, Pot], seen: Seen) -> dict[str, Pot]:
        """The pots after a round."""
        counts = seen.counts
        tolerated = self._rules.tolerance[NAME] * counts.pairs
        difference = counts.candidate_failed - counts.stable_failed - tolerated
        return {
            "relative": bets.play_round(pots["relative"], difference),
            "absolute": self._absolute(pots["absolute"], counts) if seen.healthy else pots["absolute"],
            "promote": self._promote(pots["promote"], counts) if seen.healthy else pots["promote"],
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

        low, middle, high = (min(factor(stake), _LARGEST_FACTOR) for stake in STAKES)
        return bets.multiplied(pot, low, middle, high)

    def _promote(self, pot: Pot, seen: Counts) -> Pot:
        # What stable alone fails counts in full: a round in which it fails often, as in a burst, is not heard at all.
        worse, better = seen.only_candidate_failed, seen.only_stable_failed
        return bets.against_margin(pot, self._rules.margin[NAME], worse, better, seen.pairs - worse - better)
