"""Requests that fail: more of them than on stable, or more than anybody may have."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from llm_rollout.canary import bets
from llm_rollout.canary.bets import NEW, STAKES, Pot, Stakes
from llm_rollout.canary.rounds import Counts
from llm_rollout.canary.rules import Rules
from llm_rollout.canary.times import Seen

NAME = "errors"
SHARES = {"ordinary": 0.8, "relative": 0.1, "absolute": 0.1}
"""Of this metric's weight. The most is staked on ordinary rounds alone, those in which neither side fails far more than
the other: a burst on stable cannot empty that pot, and more errors round after round fill it. A candidate that dies has
no ordinary rounds: it is left to the other two, and the last holds a limit that is the same whatever stable does."""
_FEW = 5
"""Failures more than on the other side that any round may have, however small rounds are."""
_MARGIN_STAKES = (0.25, 0.5, 0.65)
"""Of bets against the margin, pair by pair: half is best at 5 failures in 1,000, a quarter at 3 in 100."""
_LARGEST_FACTOR = 5.0
"""Of one round, for the absolute limit: a burst alone is not believed, a candidate that is dead is found in 5 rounds.
Where less than the limit fails, the other rounds lose more than a burst in every 20 could win."""


class ErrorRate:
    """The pots on failed requests."""

    name = NAME

    def __init__(self, rules: Rules) -> None:
        """Hold on to the limits."""
        self._rules = rules

    def new(self) -> dict[str, Pot]:
        """The pots before the first round."""
        return dict.fromkeys((*SHARES, "promote"), NEW)

    def after(self, pots: Mapping[str, Pot], seen: Seen) -> dict[str, Pot]:
        """The pots after a round."""
        counts = seen.counts
        tolerated = self._rules.tolerance[NAME] * counts.pairs
        difference = counts.candidate_failed - counts.stable_failed - tolerated
        ordinary = abs(difference) <= max(_FEW, self._rules.sick_share * counts.pairs)
        return {
            "ordinary": bets.play_round(pots["ordinary"], difference) if ordinary else pots["ordinary"],
            "relative": bets.play_round(pots["relative"], difference),
            "absolute": self._absolute(pots["absolute"], counts) if seen.healthy else pots["absolute"],
            "promote": self._promote(pots["promote"], counts) if seen.healthy else pots["promote"],
        }

    def worse(self, pots: Mapping[str, Pot], totals: Counts) -> float:
        """Wealth of the bets that the candidate fails more often."""
        del totals
        return sum(share * bets.worth(pots[kind]) for kind, share in SHARES.items())

    def not_worse(self, pots: Mapping[str, Pot], totals: Counts) -> float:
        """Wealth of the bets that the candidate does not fail more often by the margin."""
        del totals
        return bets.worth(pots["promote"])

    def _absolute(self, pot: Pot, seen: Counts) -> Pot:
        return bets.multiplied(pot, *_factors(self._rules.absolute_error_limit, seen.candidate_failed, seen.pairs))

    def _promote(self, pot: Pot, seen: Counts) -> Pot:
        # What stable alone fails counts in full: a round in which it fails often, as in a burst, is not heard at all.
        worse, better = seen.only_candidate_failed, seen.only_stable_failed
        net = bets.Net(worse, better, seen.pairs - worse - better)
        return bets.against_margin(pot, self._rules.margin[NAME], net, _MARGIN_STAKES)


@lru_cache(maxsize=1024)
def _factors(limit: float, failed: int, requests: int) -> Stakes:
    """What bets that more than ``limit`` fails win on a round; few rounds differ in how many failed."""

    def factor(stake: float) -> float:
        won = bets.product((1 + stake, failed), (1 - stake * limit / (1 - limit), requests - failed))
        return min(won, _LARGEST_FACTOR)

    return factor(STAKES[0]), factor(STAKES[1]), factor(STAKES[2])
