"""The slowest requests: a candidate whose median is as good can still keep one user in a hundred waiting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from math import log
from typing import Any

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
_FAR = 0.5
"""How far from p95 or p99 towards the margin beyond it slow requests are counted for a promotion: nearer, many that
stall look like fewer that are a little slow; farther, hardly any is left to count."""
_LARGEST = 5
_DIGITS = 4


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
        if not times.ttft:
            return changed
        tolerated = log(self.rules.tolerance[NAME])
        changed["largest"] = bets.play_round(
            pots["largest"], largest_signs(times.ttft, tolerated, _LARGEST), bets.SCORES
        )
        for name, limit in self._limits(pots["latest"], times).items():
            changed[name] = bets.play_round(pots[name], _excess(times, limit, tolerated))
            if seen.healthy and name in _QUANTILES:
                promote, margin = f"promote_{name}", log(self.rules.margin[name])
                changed[promote] = bets.play_round(pots[promote], -_excess(times, limit - (1 - _FAR) * margin, margin))
        changed["latest"] = _kept(pots["latest"], times)
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

    def _limits(self, latest: Sequence[Sequence[float]], times: Times) -> dict[str, float]:
        known = {name: log(limit) for name, limit in self.rules.history.items()}
        values = sorted(chain.from_iterable(latest))
        if len(values) < _ENOUGH:
            return known
        # What both sides suffer alike in this round is no tail: the limits move with the mean of the two. A median
        # would leap where half of the prompts are long.
        now = (sum(times.stable_ttft) + sum(times.candidate_ttft)) / (2 * len(times.ttft))
        shift = now - sum(values) / len(values)
        return {name: values[int(part * len(values))] + shift for name, part in _QUANTILES.items()} | known


def _excess(times: Times, limit: float, allowed: float) -> int:
    """Requests beyond the limit: the candidate's, with what it is allowed taken off, less stable's."""
    candidate_limit = limit + allowed
    candidate = sum([value > candidate_limit for value in times.candidate_ttft])
    return candidate - sum([value > limit for value in times.stable_ttft])


def _kept(latest: tuple[tuple[float, ...], ...], times: Times) -> tuple[tuple[float, ...], ...]:
    # Sorted rounds are merged faster than single values are sorted.
    rounds = (*latest, tuple(sorted(round(value, _DIGITS) for value in times.stable_ttft)))
    held = sum(map(len, rounds))
    while held - len(rounds[0]) >= REMEMBERED:
        held -= len(rounds[0])
        rounds = rounds[1:]
    return rounds
