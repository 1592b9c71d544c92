"""The slowest requests: a candidate whose median is as good can still keep one user in a hundred waiting."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from math import log
from typing import Any, NamedTuple

from llm_rollout.canary import bets
from llm_rollout.canary.rounds import Counts
from llm_rollout.canary.rules import Rules
from llm_rollout.canary.times import Seen, Times, largest_signs

NAME = "tail"
REMEMBERED = 500
"""Stable's latest requests, which say what slow is. Fewer know no p99, more forget an incident too late."""
_ENOUGH = 100
_QUANTILES = {"p95": 0.95, "p99": 0.99}
_P99_SHARE = 0.6
"""Of this metric's weight: requests that stall are rare, and p99 is where they show."""
_PROMOTED_FROM = {"p95": 0.93, "p99": 0.975}
"""A promotion counts stable's requests from these quantiles on, and the candidate's from a margin beyond. One request
in 100 is too rare for 1,000 pairs to tell; from farther in, requests that stall pass for some that are merely slow."""
_LARGEST = 5
_DIGITS = 10_000
_SAME = 1e-9
"""Of the logarithms: a time at the limit is beyond it, whatever rounding does, or times that are all the same said
nothing."""


@dataclass(frozen=True)
class Tail:
    """The pots on requests slower than stable's own p95 and p99, and on the largest differences of a round."""

    rules: Rules
    name: str = NAME

    def new(self) -> dict[str, Any]:
        """The pots before the first round; ``latest`` holds stable's TTFT of the latest rounds."""
        kinds = ("largest", *self._quantiles(), *(f"promote_{name}" for name in _QUANTILES))
        return {**dict.fromkeys(kinds, bets.NEW), "latest": ()}

    def after(self, pots: Mapping[str, Any], seen: Seen) -> dict[str, Any]:
        """The pots after a round; one without times says nothing."""
        times, changed = seen.times, dict(pots)
        # Stable is not warming up: how slow it is can be known before the first round that counts.
        changed["latest"] = _kept(pots["latest"], seen.first.stable_ttft + times.stable_ttft)
        if not times.ttft:
            return changed
        tolerated = log(self.rules.tolerance[NAME])
        changed["largest"] = bets.play_round(
            pots["largest"], largest_signs(times.ttft, tolerated, _LARGEST), bets.SCORES
        )
        usual = _usual(pots["latest"], times)
        known = {name: log(limit) for name, limit in self.rules.history.items()}
        for name, limit in (usual.limits(_QUANTILES) | known).items():
            changed[name] = bets.play_round(pots[name], _excess(times, limit, tolerated))
        for name, limit in usual.limits(_PROMOTED_FROM).items() if seen.healthy else ():
            promote, margin = f"promote_{name}", log(self.rules.margin[name])
            changed[promote] = bets.play_round(pots[promote], -_excess(times, limit, margin))
        return changed

    def worse(self, pots: Mapping[str, Any], totals: Counts) -> float:
        """Wealth of the bets that the candidate is slow more often."""
        del totals
        others = [bets.worth(pots[kind]) for kind in ("largest", *self._quantiles()) if kind != "p99"]
        return _P99_SHARE * bets.worth(pots["p99"]) + (1 - _P99_SHARE) * sum(others) / len(others)

    def not_worse(self, pots: Mapping[str, Any], totals: Counts) -> float:
        """Wealth of the bets that its slow requests are not slower by the margins."""
        del totals
        return min(bets.worth(pots[f"promote_{name}"]) for name in _QUANTILES)

    def _quantiles(self) -> tuple[str, ...]:
        return tuple(sorted({*self.rules.history, *_QUANTILES}))


class _Usual(NamedTuple):
    """Stable's latest times, sorted, and by how much those of this round are shifted."""

    times: list[float]
    shift: float

    def limits(self, parts: Mapping[str, float]) -> dict[str, float]:
        """The quantiles; none of too few times."""
        if len(self.times) < _ENOUGH:
            return {}
        return {name: self.times[int(part * len(self.times))] + self.shift for name, part in parts.items()}


def _usual(latest: Sequence[Sequence[float]], times: Times) -> _Usual:
    before = sorted(chain.from_iterable(latest))
    # What both sides suffer alike in this round is no tail: the limits move with the mean of the two. A median would
    # leap where half of the prompts are long.
    now = (sum(times.stable_ttft) + sum(times.candidate_ttft)) / (2 * len(times.ttft))
    return _Usual(before, now - sum(before) / len(before) if before else 0.0)


def _excess(times: Times, limit: float, allowed: float) -> int:
    """Requests beyond the limit: the candidate's, with what it is allowed taken off, less stable's."""
    stable, candidate = times.stable_ttft, times.candidate_ttft
    candidate_beyond = len(candidate) - bisect_left(candidate, limit + allowed - _SAME)
    return candidate_beyond - (len(stable) - bisect_left(stable, limit - _SAME))


def _kept(latest: tuple[tuple[float, ...], ...], stable_ttft: Sequence[float]) -> tuple[tuple[float, ...], ...]:
    if not stable_ttft:
        return latest
    # Sorted rounds are merged faster than single values are sorted.
    rounds = (*latest, tuple([int(value * _DIGITS) / _DIGITS for value in sorted(stable_ttft)]))
    held = sum(map(len, rounds))
    while held - len(rounds[0]) >= REMEMBERED:
        held -= len(rounds[0])
        rounds = rounds[1:]
    return rounds
