"""Pots: money staked on a claim, which a false claim makes grow past X at most once in X times.

A pot starts at 1 and holds three bets, because the size of a difference is not known beforehand. Whoever looks after
every round, stops early or goes on longer than planned keeps that promise, which a p-value does not.
"""

from __future__ import annotations

import math

Pot = tuple[float, ...]
"""The wealth of each bet; a pot is worth their mean."""

STAKES = (0.2, 0.5, 0.8)
"""Part of the wealth that a bet risks on one observation: three are as fast as eight, or as adaptive ones."""

NEW: Pot = (1.0,) * len(STAKES)

BOLDNESS = 0.9
"""No round takes all: a pot that is empty could not answer when the world changes."""

MIXED = 0.01
"""Part of the wealth that is shared out evenly among the bets after every round, for the same reason."""

_STEEPNESS = tuple(math.atanh(stake) for stake in STAKES)
_LEAST, _MOST = 1e-200, 1e12


def worth(pot: Pot) -> float:
    """What a pot holds now; it was 1 at the start."""
    return sum(pot) / len(pot)


def play_round(pot: Pot, difference: float) -> Pot:
    """Bet that ``difference`` is positive. Fair if it is symmetric about 0, whatever happened inside the round.

    A round at most multiplies by 1.9: a burst, a tie or a shared incident is one piece of evidence, however large.
    """
    return multiplied(pot, tuple(1 + BOLDNESS * math.tanh(steep * difference) for steep in _STEEPNESS))


def multiplied(pot: Pot, factors: tuple[float, ...]) -> Pot:
    """The pot after a round that multiplied each bet by its factor."""
    wealth = [min(max(bet * factor, _LEAST), _MOST) for bet, factor in zip(pot, factors, strict=True)]
    share = MIXED * sum(wealth) / len(wealth)
    return tuple((1 - MIXED) * bet + share for bet in wealth)


def against_margin(pot: Pot, margin: float, worse: int, better: int, equal: int) -> Pot:
    """Bet that the candidate is worse in fewer than ``margin`` of the pairs, net of those where it is better.

    Each pair multiplies by 1 + stake * (margin - D) / (1 - margin) with D = 1, -1 or 0: on average at most 1 for a
    candidate that is worse by the margin or more.
    """
    scale = 1 - margin

    def factor(stake: float) -> float:
        lost = 1 - stake
        won = 1 + stake * (margin + 1) / scale
        tied = 1 + stake * margin / scale
        return float(lost**worse * won**better * tied**equal)

    return multiplied(pot, tuple(factor(stake) for stake in STAKES))
