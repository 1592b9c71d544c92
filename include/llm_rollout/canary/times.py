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
        if stable.ttft_ms is not None and candidate.ttft_ms is not None:
            before, now = log(max(stable.ttft_ms, _CLOCK_MS)), log(max(candidate.ttft_ms, _CLOCK_MS))
            found.ttft.append(now - before)
            found.stable_ttft.append(before)
            found.candidate_ttft.append(now)
        _append_ratio(found.itl, _itl_ms(stable), _itl_ms(candidate))
        _append_ratio(found.throughput, _token_ms(stable), _token_ms(candidate))
    return found


def _append_ratio(to: list[float], stable: float | None, candidate: float | None) -> None:
    if stable is not None and candidate is not None:
        to.append(log(max(candidate, _CLOCK_MS) / max(stable, _CLOCK_MS)))


def _itl_ms(answer: Answer) -> float | None:
    """Mean time between tokens."""
    _, ttft, total, tokens, _, _ = answer
    if ttft is None or total is None or tokens is None or tokens < 2 or total < ttft:  # noqa: PLR2004 - between two
        return None
    return (total - ttft) / (tokens - 1)


def _token_ms(answer: Answer) -> float | None:
    """Time of the whole request by token: the reciprocal of its throughput."""
    if answer.total_ms is None or not answer.tokens:
        return None
    return answer.total_ms / answer.tokens


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
