"""Sums about times, for people: what the sentence of a decision tells."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import NamedTuple

from llm_rollout.canary.times import Times

_TWICE = 0.6931


class Slower(NamedTuple):
    """One kind of time."""

    pairs: int = 0
    longer: int = 0
    """Pairs in which the candidate took longer."""
    log_ratio: float = 0.0
    """Sum of the logarithms of candidate over stable, each cut at a factor of 2."""

    def after(self, ratios: list[float]) -> Slower:
        """With a round more, its ratios sorted."""
        if not ratios:
            return self
        less, more = _beyond_twice(ratios)
        cut = sum(ratios[less : len(ratios) - more]) + (more - less) * _TWICE
        longer = len(ratios) - bisect_right(ratios, 0.0)
        return Slower(self.pairs + len(ratios), self.longer + longer, self.log_ratio + cut)


class Timings(NamedTuple):
    """By kind, of the pairs after the warm-up."""

    ttft: Slower = Slower()
    itl: Slower = Slower()
    throughput: Slower = Slower()
    ttft_seen: int = 0
    """Pairs with TTFT on both sides, the warm-up's too."""
    stable_slow: int = 0
    candidate_slow: int = 0
    """Where one side took at least twice as long as the other."""

    def after(self, times: Times, warmup: int) -> Timings:
        """With a round more, and ``warmup`` pairs with TTFT within the warm-up."""
        stable_slow, candidate_slow = _beyond_twice(times.ttft)
        return Timings(
            self.ttft.after(times.ttft),
            self.itl.after(times.itl),
            self.throughput.after(times.throughput),
            self.ttft_seen + warmup + len(times.ttft),
            self.stable_slow + stable_slow,
            self.candidate_slow + candidate_slow,
        )


def _beyond_twice(ratios: list[float]) -> tuple[int, int]:
    """How many of the sorted ratios are below a half, and how many above 2."""
    return bisect_left(ratios, -_TWICE), len(ratios) - bisect_right(ratios, _TWICE)
