"""The times of a round: paired ratios, and whether a round of them speaks against the candidate."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from math import copysign, log, sqrt
from operator import sub, truediv
from statistics import NormalDist
from typing import NamedTuple

from llm_rollout.canary.rounds import Answer, Counts, Pair

_ALIKE = 1.1
"""Prompts whose lengths differ by less are compared as they are."""
_CLOCK_MS = 0.01
"""A time below what a clock tells counts as this much."""


_Both = tuple[list[float], list[float]]
"""Stable's times and the candidate's, pair by pair."""


class Times(NamedTuple):
    """Logarithms of the candidate's time over stable's, one for each pair that has both; TTFT of each side beside.

    All are sorted, because all that is done with them is done sooner then.
    """

    ttft: list[float]
    itl: list[float]
    throughput: list[float]
    stable_ttft: list[float]
    candidate_ttft: list[float]


class Seen(NamedTuple):
    """A round as the metrics see it."""

    counts: Counts
    times: Times
    """Of the pairs after the warm-up."""
    first: Times
    """Of the pairs within the warm-up."""
    healthy: bool
    """Whether stable is well enough for the round to say something in the candidate's favour."""


def measure(pairs: Sequence[Pair]) -> Times:
    """The times of pairs in which both sides answered: TTFT, the mean time between tokens, and the time by token.

    The last is the reciprocal of throughput. A request of one token has none between, and one that was over before its
    first token neither.
    """
    if not pairs:
        return Times([], [], [], [], [])
    firsts: _Both = [], []
    gaps: _Both = [], []
    wholes: _Both = [], []
    for (_, first, total, tokens, _, _), (_, first_now, total_now, tokens_now, _, _) in _like_with_like(pairs):
        if first is not None and first_now is not None:
            firsts[0].append(first)
            firsts[1].append(first_now)
        if not tokens or not tokens_now or total is None or total_now is None:
            continue
        wholes[0].append(total / tokens)
        wholes[1].append(total_now / tokens_now)
        if first is None or first_now is None or total < first or total_now < first_now:
            continue
        if tokens > 1 and tokens_now > 1:
            gaps[0].append((total - first) / (tokens - 1))
            gaps[1].append((total_now - first_now) / (tokens_now - 1))
    before, now = (list(map(log, _told(side))) for side in firsts)
    return Times(sorted(map(sub, now, before)), _log_ratios(*gaps), _log_ratios(*wholes), sorted(before), sorted(now))


def _log_ratios(before: list[float], now: list[float]) -> list[float]:
    return sorted(map(log, map(truediv, _told(now), _told(before))))


def _told(times: list[float]) -> list[float]:
    """As a clock tells them."""
    return times if not times or min(times) > _CLOCK_MS else [max(time, _CLOCK_MS) for time in times]


def _like_with_like(pairs: Sequence[Pair]) -> list[Pair]:
    """The pairs that answered, coupled anew where the two prompts of a pair differ in length."""
    both = [pair for pair in pairs if pair.stable.ok and pair.candidate.ok]
    if not [pair for pair in both if pair.stable.prompt_tokens != pair.candidate.prompt_tokens]:
        return both
    apart = [pair for pair in both if not _alike(pair)]
    return list(filter(_alike, both)) + _coupled(apart)


def _alike(pair: Pair) -> bool:
    one, other = pair.stable.prompt_tokens, pair.candidate.prompt_tokens
    return one is None or other is None or one == other or max(one, other) <= _ALIKE * min(one, other)


def _coupled(pairs: Sequence[Pair]) -> list[Pair]:
    """Stable's and the candidate's answers, shortest prompts first; one without its like is left out."""
    stables = sorted((pair.stable for pair in pairs), key=_length, reverse=True)
    candidates = sorted((pair.candidate for pair in pairs), key=_length, reverse=True)
    found = []
    while stables and candidates:
        pair = Pair(stables[-1], candidates[-1])
        if _alike(pair):
            found.append(Pair(stables.pop(), candidates.pop()))
        else:
            (stables if _length(pair.stable) < _length(pair.candidate) else candidates).pop()
    return found


def _length(answer: Answer) -> int:
    return answer.prompt_tokens or 0


def normal_score(ratios: Sequence[float], allowed: float) -> float:
    """Signed normal scores of the ratios about what is allowed: deviation 1 where nothing differs.

    The scores of the ranks of the absolute values (Fraser 1957) see a little more than the ranks of Wilcoxon where
    the logarithms of times are about normal, and a few wild times weigh no more than their rank.
    """
    ordered = sorted([ratio - allowed for ratio in ratios], key=abs)
    weights, deviation = _normal_scores(len(ordered))
    none = 0
    while none < len(ordered) and not ordered[none]:
        none += 1
    return sum(map(copysign, weights[none:], ordered[none:])) / deviation


@cache
def _normal_scores(number: int) -> tuple[tuple[float, ...], float]:
    """The score of each rank, and the deviation of their sum with random signs."""
    normal = NormalDist()
    weights = tuple(normal.inv_cdf((1 + rank / (number + 1)) / 2) for rank in range(1, number + 1))
    return weights, sqrt(sum(weight * weight for weight in weights)) or 1.0


def largest_signs(ratios: Sequence[float], allowed: float, number: int) -> float:
    """On which side the largest ratios are, which are sorted: deviation 1 where nothing differs."""
    ends = [*ratios[:number], *ratios[max(number, len(ratios) - number) :]]
    largest = sorted([ratio - allowed for ratio in ends], key=abs)[-number:]
    return sum([(ratio > 0) - (ratio < 0) for ratio in largest]) / sqrt(number)
