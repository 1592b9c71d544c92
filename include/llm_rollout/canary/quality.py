"""Right and wrong answers to the same prompts. Only prompts where one side alone is wrong carry information."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from math import comb

from llm_rollout.canary import bets
from llm_rollout.canary.bets import NEW, STAKES, Pot, Stakes
from llm_rollout.canary.rounds import Counts
from llm_rollout.canary.rules import Rules
from llm_rollout.canary.times import Seen

NAME = "quality"
WHOLE_SET_SHARE = 0.5
"""Of this metric's weight, staked at once on the exact test when a small set is graded as a whole."""
FEW_ROUNDS = 10
"""A set that lasts longer is left to the pots: they bear wrong answers that come in bursts, the exact test does not."""

_MOST_BY_PROMPT = 4
"""Net prompts of a round that the pot by prompt counts: wrong answers that come in bursts are not independent."""
_MOST_IN_FAVOUR = 3
"""Net prompts of a round in the candidate's favour: a burst of wrong answers on stable proves nothing about it."""
_MARGIN_STAKES = (0.12, 0.25, 0.5)
"""Of bets against the margin, prompt by prompt: half is best where each side alone is wrong in 2 of 100 prompts, an
eighth where two sides that are right in 90 of 100 have no mistake in common."""


class Quality:
    """The pots on graded answers.

    A set that fits under the cap is a population drawn without replacement. Once all of it is graded, the difference
    is known: the candidate is not worse if its net loss, with each task not yet graded counted as lost, stays below
    the margin. A set too small for the pots is worse if the loss reaches the margin and the exact sign test calls it
    no chance, because engines that batch differently answer a few prompts differently each time. In between there is
    no decision.
    """

    name = NAME

    def __init__(self, rules: Rules) -> None:
        """Hold on to the limits."""
        self._rules = rules
        self._exact = rules.whole_set and (rules.tasks or 0) <= FEW_ROUNDS * rules.round_pairs

    def new(self) -> dict[str, Pot]:
        """The pots before the first round."""
        return {"by_round": NEW, "by_prompt": NEW, "promote": NEW}

    def after(self, pots: Mapping[str, Pot], seen: Seen) -> dict[str, Pot]:
        """The pots after a round; one without grades says nothing."""
        counts = seen.counts
        if not counts.graded:
            return dict(pots)
        tolerated, by_prompt = self._rules.tolerance[NAME] * counts.graded, pots["by_prompt"]
        worse, better = counts.only_candidate_wrong, counts.only_stable_wrong
        return {
            "by_round": bets.play_round(pots["by_round"], worse - better - tolerated),
            "by_prompt": by_prompt if tolerated else bets.multiplied(by_prompt, *_factors(worse, better)),
            "promote": self._promote(pots["promote"], counts) if seen.healthy else pots["promote"],
        }

    def worse(self, pots: Mapping[str, Pot], totals: Counts) -> float:
        """Wealth of the bets that the candidate is wrong more often."""
        sequential = (bets.worth(pots["by_round"]) + bets.worth(pots["by_prompt"])) / 2
        if not self._exact:
            return sequential
        return (1 - WHOLE_SET_SHARE) * sequential + WHOLE_SET_SHARE * self._whole_set(totals)

    def not_worse(self, pots: Mapping[str, Pot], totals: Counts) -> float:
        """Wealth of the bets that the candidate is not wrong more often by the margin."""
        known = self._rules.whole_set and self._worst_loss(totals) < self._rules.margin[NAME]
        return max(bets.worth(pots["promote"]), 1 / self._rules.beta if known else 0.0)

    def _worst_loss(self, totals: Counts) -> float:
        """The part of the set that is lost if all that is not graded is lost."""
        size = self._rules.tasks or 0
        return (totals.only_candidate_wrong - totals.only_stable_wrong + size - totals.graded) / size

    def _whole_set(self, totals: Counts) -> float:
        """A stake of 1 on one look at the exact test: it pays 1 / p with chance p, else nothing."""
        if totals.graded < (self._rules.tasks or 0):
            return 1.0
        # A hair below the share of alpha, so that the payment lifts the mean over 1 / alpha despite rounding.
        chance = 0.999 * self._rules.alpha * self._rules.weight(NAME) * WHOLE_SET_SHARE
        lost = self._worst_loss(totals) >= self._rules.margin[NAME]
        significant = sign_test(totals.only_candidate_wrong, totals.only_stable_wrong) <= chance
        return 1 / chance if lost and significant else 0.0

    def _promote(self, pot: Pot, seen: Counts) -> Pot:
        worse = seen.only_candidate_wrong
        better = min(seen.only_stable_wrong, worse + _MOST_IN_FAVOUR)
        net = bets.Net(worse, better, seen.graded - worse - better)
        return bets.against_margin(pot, self._rules.margin[NAME], net, _MARGIN_STAKES)


@lru_cache(maxsize=1024)
def _factors(worse: int, better: int) -> Stakes:
    """What bets that the candidate is wrong more often win on a round; few rounds differ in how many were wrong."""
    net, both = max(-_MOST_BY_PROMPT, min(worse - better, _MOST_BY_PROMPT)), min(worse, better)

    def factor(stake: float) -> float:
        bold = bets.BOLDNESS * stake
        return bets.product((1 - bold * bold, both), (1 + bold if net > 0 else 1 - bold, abs(net)))

    return factor(STAKES[0]), factor(STAKES[1]), factor(STAKES[2])


def sign_test(losses: int, wins: int) -> float:
    """The chance of so many losses or more among ``losses + wins`` fair coin tosses."""
    tosses = losses + wins
    ways = sum(comb(tosses, heads) for heads in range(losses, tosses + 1))
    return ways / (1 << tosses)
