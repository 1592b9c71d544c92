"""Pots: money staked on a claim, which a false claim makes grow past X at most once in X times.

A pot starts at 1 and holds three bets, because the size of a difference is not known beforehand, and a reserve. Whoever
looks after every round, stops early or goes on longer than planned keeps that promise, which a p-value does not.
"""

from __future__ import annotations

from functools import lru_cache
from math import atanh, exp, log, sqrt, tanh
from typing import NamedTuple

Pot = tuple[float, float, float, float]
"""The money of each of three bets, and the reserve; a pot is worth their sum."""

Stakes = tuple[float, float, float]
STAKES: Stakes = (0.2, 0.5, 0.8)
"""Part of the money that a bet risks on one observation: three are as fast as eight, or as adaptive ones."""

Steepness = tuple[float, float, float]
COUNTS: Steepness = (atanh(STAKES[0]), atanh(STAKES[1]), atanh(STAKES[2]))
"""How fast a bet on a difference of counts reaches its most: one request more wins the stake."""
SCORES: Steepness = (0.5, 0.8, 1.2)
"""The same for a score that has a deviation of 1 where nothing differs."""
PATIENT: Steepness = (0.2, 0.5, 0.9)
"""For the score of a promotion: times that depend on the ones before vary more from round to round, and bold bets on
them lose what they won."""

RESERVE = 0.1
"""Part of a new pot that is not staked."""
NEW: Pot = ((1 - RESERVE) / 3, (1 - RESERVE) / 3, (1 - RESERVE) / 3, RESERVE)

BOLDNESS = 0.9
"""No round takes all: a pot that is empty could not answer when the world changes."""

MIXED = 0.01
"""Part of the money that is shared out evenly among the bets after every round, for the same reason."""

_POOR, _HELP = 0.02, 0.05
"""Bets that hold less than the first get the second out of the reserve: what went wrong early must not silence a pot
for good."""
_LEAST, _MOST = 1e-200, 1e12
_LARGEST_LOGARITHM = log(1e100)


def worth(pot: Pot) -> float:
    """What a pot holds now; it was 1 at the start."""
    return pot[0] + pot[1] + pot[2] + pot[3]


def play_round(pot: Pot, difference: float, steepness: Steepness = COUNTS) -> Pot:
    """Bet that ``difference`` is positive. Fair if it is symmetric about 0, whatever happened inside the round.

    A round at most multiplies by 1.9: a burst, a tie or a shared incident is one piece of evidence, however large.
    """
    low, middle, high = steepness
    return multiplied(
        pot,
        1 + BOLDNESS * tanh(low * difference),
        1 + BOLDNESS * tanh(middle * difference),
        1 + BOLDNESS * tanh(high * difference),
    )


def multiplied(pot: Pot, low: float, middle: float, high: float) -> Pot:
    """The pot after a round that multiplied its bets by these factors."""
    first, second, third, reserve = pot[0] * low, pot[1] * middle, pot[2] * high, pot[3]
    total = first + second + third
    if total < _POOR and reserve > 0:
        taken = min(reserve, _HELP)
        reserve -= taken
        first, second, third, total = first + taken / 3, second + taken / 3, third + taken / 3, total + taken
    share, rest = max(MIXED * total / 3, _LEAST), 1 - MIXED
    if total > _MOST:
        rest *= _MOST / total
        share *= _MOST / total
    return rest * first + share, rest * second + share, rest * third + share, reserve


class Net(NamedTuple):
    """How a round's pairs differ."""

    worse: int
    better: int
    equal: int


def against_margin(pot: Pot, margin: float, seen: Net, stakes: Stakes) -> Pot:
    """Bet that the candidate is worse in fewer than ``margin`` of the pairs, net of those where it is better.

    Each pair multiplies by 1 + stake * (margin - D) / (1 - margin) with D = 1, -1 or 0: on average at most 1 for a
    candidate that is worse by the margin or more.
    """
    return multiplied(pot, *_margin_factors(margin, seen, stakes))


@lru_cache(maxsize=1024)
def _margin_factors(margin: float, seen: Net, stakes: Stakes) -> Stakes:
    scale = 1 - margin

    def factor(stake: float) -> float:
        lost = 1 - stake
        won = 1 + stake * (margin + 1) / scale
        tied = 1 + stake * margin / scale
        return product((lost, seen.worse), (won, seen.better), (tied, seen.equal))

    return factor(stakes[0]), factor(stakes[1]), factor(stakes[2])


def product(*powers: tuple[float, int]) -> float:
    """Of bases above 0, each to its power; at most 1e100, because rounds may have any number of pairs."""
    return exp(min(sum([power * log(base) for base, power in powers]), _LARGEST_LOGARITHM))


class Staggered(NamedTuple):
    """Pots on one score a round, at several paces: one bets every round, two in turn on two rounds together, and so on.

    Noise that hits one side alone and outlasts a round is evidence round after round, but less at a slower pace.
    """

    paces: tuple[tuple[Pot, ...], ...] = ((NEW,), (NEW, NEW), (NEW, NEW, NEW))
    scores: tuple[float, ...] = ()
    """Of the latest rounds, as many as the slowest pace needs besides the next one."""
    rounds: int = 0
    total: float = 0.0
    squares: float = 0.0
    """Sums of the scores and of their squares."""


SWAYING = 1.4
"""Variance of the scores, 1 where rounds are all alike, beyond which the slowest pace must be convinced as well: then
something that lasts hits one side alone. It costs the least where nothing sways."""


def play_score(pots: Staggered, score: float) -> Staggered:
    """Bet at every pace that the score, of deviation 1 and symmetric about 0 where nothing differs, is positive."""
    scores = (*pots.scores, score)
    paces = []
    for pace in pots.paces:
        rounds = len(pace)
        if len(scores) >= rounds:
            turn = pots.rounds % rounds
            together = score if rounds == 1 else sum(scores[-rounds:]) / sqrt(rounds)
            pace = (*pace[:turn], play_round(pace[turn], together, SCORES), *pace[turn + 1 :])  # noqa: PLW2901
        paces.append(pace)
    kept = scores[1 - len(pots.paces) :]
    return Staggered(tuple(paces), kept, pots.rounds + 1, pots.total + score, pots.squares + score * score)


def lasting_worth(pots: Staggered) -> float:
    """The wealth at the pace that won least; the slowest counts only where the scores sway."""
    paces = pots.paces if _variance(pots) > SWAYING else pots.paces[:-1]
    return min(sum(map(worth, pace)) / len(pace) for pace in paces)


def _variance(pots: Staggered) -> float:
    if pots.rounds <= len(pots.paces):
        return 0.0
    return (pots.squares - pots.total * pots.total / pots.rounds) / (pots.rounds - 1)
