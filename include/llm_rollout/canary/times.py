"""The times of a round: paired ratios, and whether a round of them speaks against the candidate."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from math import log, sqrt
from statistics import NormalDist
from typing import NamedTuple

from llm_rollout.canary.rounds import Answer, Counts, Pair

_ALIKE = 1.1
"""Prompts whose lengths differ by less are compared as they are."""
_CLOCK_MS = 0.01
"""A time below what a clock tells counts as this much."""


class Times(NamedTuple):
    """Logarithms of the candidate's time over stable's, one for each pair that has both; TTFT of each side beside."""

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
    first: list[float]
    """TTFT of the pairs within the warm-up."""
    healthy: bool
    """Whether stable is well enough for the round to say something in the candidate's favour."""


def measure(pairs: Sequence[Pair]) -> Times:
    """The times of pairs in which both sides answered."""
    found = Times([], [], [], [], [])
    for stable, candidate in _like_with_like(pairs):
        before, before_itl, before_token = _logarithms(stable)
        now, now_itl, now_token = _logarithms(candidate)
        if before is not None and now is not None:
            found.ttft.append(now - before)
            found.stable_ttft.append(before)
            found.candidate_ttft.append(now)
        if before_itl is not None and now_itl is not None:
            found.itl.append(now_itl - before_itl)
        if before_token is not None and now_token is not None:
            found.throughput.append(now_token - before_token)
    return found


def _logarithms(answer: Answer) -> tuple[float | None, float | None, float | None]:
    """Of TTFT, the mean time between tokens and the time by token, the reciprocal of throughput; None if unknown."""
    _, ttft, total, tokens, _, _ = answer
    first = None if ttft is None else _log(ttft)
    if not tokens or total is None:
        return first, None, None
    by_token = _log(total / tokens)
    if ttft is None or tokens == 1 or total < ttft:
        return first, None, by_token
    return first, _log((total - ttft) / (tokens - 1)), by_token


def _log(milliseconds: float) -> float:
    return log(milliseconds if milliseconds > _CLOCK_MS else _CLOCK_MS)  # noqa: FURB136 - max() takes twice as long


def _like_with_like(pairs: Sequence[Pair]) -> list[Pair]:
    """The pairs that answered, coupled anew where the two prompts of a pair differ in length."""
    both: list[Pair] = []
    apart: list[Pair] = []
    for pair in pairs:
        stable, candidate = pair
        if stable.ok and candidate.ok:
            (both if _alike(stable.prompt_tokens, candidate.prompt_tokens) else apart).append(pair)
    return both + _coupled(apart) if apart else both


def _alike(one: int | None, other: int | None) -> bool:
    if one is None or other is None or one == other:
        return True
    return max(one, other) <= _ALIKE * min(one, other)


def _coupled(pairs: Sequence[Pair]) -> list[Pair]:
    """Stable's and the candidate's answers, shortest prompts first; one without its like is left out."""
    stables = sorted((pair.stable for pair in pairs), key=_length, reverse=True)
    candidates = sorted((pair.candidate for pair in pairs), key=_length, reverse=True)
    found = []
    while stables and candidates:
        one, other = stables[-1].prompt_tokens, candidates[-1].prompt_tokens
        if _alike(one, other):
            found.append(Pair(stables.pop(), candidates.pop()))
        else:
            (stables if (one or 0) < (other or 0) else candidates).pop()
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
    total = 0.0
    for ratio, weight in zip(ordered, weights, strict=True):
        if ratio > 0:
            total += weight
        elif ratio < 0:
            total -= weight
    return total / deviation


@cache
def _normal_scores(number: int) -> tuple[tuple[float, ...], float]:
    """The score of each rank, and the deviation of their sum with random signs."""
    normal = NormalDist()
    weights = tuple(normal.inv_cdf((1 + rank / (number + 1)) / 2) for rank in range(1, number + 1))
    return weights, sqrt(sum(weight * weight for weight in weights)) or 1.0


def largest_signs(ratios: Sequence[float], allowed: float, number: int) -> float:
    """On which side the largest ratios are: deviation 1 where nothing differs."""
    largest = sorted((ratio - allowed for ratio in ratios), key=abs)[-number:]
    return sum((ratio > 0) - (ratio < 0) for ratio in largest) / sqrt(number)
