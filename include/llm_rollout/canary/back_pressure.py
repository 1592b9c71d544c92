"""How much a comparison may ask of stable while stable serves users: pure decisions on what its metrics say.

The room comes from vLLM's own gauges. A gauge cannot tell what a request more costs those in flight, so the times of
stable's own answers are watched as well: they are measured once with a single request in flight, and the number in
flight only grows while they stay near that.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

_SERIES = re.compile(
    r"^vllm:(num_requests_waiting|num_requests_running|kv_cache_usage_perc)(?:\{[^}]*\})?\s+(\S+)", re.MULTILINE
)

FULL = 0.9
"""Of the KV cache: beyond, vLLM soon preempts requests, which users see as stalls."""
ALLOWED_RISE = 1.10
"""Of stable's 90th percentile of TTFT over the one measured at a single request in flight: what users may feel."""
GROWING_RISE = 1.05
"""Half of that: beyond, one request more could be the one that is felt."""
_PERCENTILE = 0.9
"""A round of 50 knows this one; its 99th would be its slowest answer alone."""
_LEAST_TIMES = 20


@dataclass(frozen=True)
class Load:
    """Sums and the fullest cache over the engines of one server."""

    waiting: float = 0.0
    running: float = 0.0
    cache_usage: float = 0.0
    """Of the KV cache, as a share of 1."""


@dataclass(frozen=True)
class Limits:
    """What the comparison may take."""

    most: int
    """Requests in flight to each side, however much room there is."""
    share_of_capacity: float = 0.5
    """Of what stable has free: the other half is for users who come while a round runs."""
    max_waiting: int = 0
    """Requests that may queue on stable while more are asked; a queue means that there is no room."""


def load(metrics: str) -> Load | None:
    """Read the text of ``/metrics``; None where it has none of vLLM's gauges."""
    found = [(name, float(value)) for name, value in _SERIES.findall(metrics)]
    if not found:
        return None
    waiting = sum(value for name, value in found if name == "num_requests_waiting")
    running = sum(value for name, value in found if name == "num_requests_running")
    usage = max((value for name, value in found if name == "kv_cache_usage_perc"), default=0.0)
    return Load(waiting, running, usage)


def room(seen: Load | None, ours: int, limits: Limits) -> int:
    """How many requests the comparison may have in flight on stable, ``ours`` among them; 0 means to wait.

    The free part of the KV cache holds as many requests as the used part holds now, in proportion. Without gauges the
    room is not known, and one request at a time is asked.
    """
    if seen is None:
        return min(1, limits.most)
    if seen.waiting > limits.max_waiting or seen.cache_usage >= FULL:
        return 0
    if seen.running <= ours or not seen.cache_usage:
        return limits.most  # Nobody else is there.
    free = (1 - seen.cache_usage) * seen.running / seen.cache_usage
    return max(1, min(limits.most, int(limits.share_of_capacity * free)))


@dataclass(frozen=True)
class Pace:
    """How many requests may be in flight as far as stable shows; begins with one, to learn what is usual.

    The number doubles until something has been felt; then it grows by one, and after every time that something is felt
    it takes twice as many quiet rounds to grow again: whoever tries out where the limit is lets users feel it.
    """

    slots: int = 1
    usual_ms: float | None = None
    """Stable's percentile of TTFT with one request in flight."""
    felt: int = 0
    """How often stable's times have risen, or requests queued."""
    quiet: int = 0
    """Rounds without that since the number changed."""

    def after(self, times_ms: Sequence[float], most: int) -> Pace:
        """The pace after a round in which stable's answers took ``times_ms`` to their first token."""
        if len(times_ms) < _LEAST_TIMES:
            return self
        seen_ms = percentile(times_ms)
        if self.usual_ms is None:
            return replace(self, usual_ms=seen_ms, slots=min(2, most))
        if seen_ms > ALLOWED_RISE * self.usual_ms:
            return self.back()
        return self._grown(most) if seen_ms <= GROWING_RISE * self.usual_ms else replace(self, quiet=0)

    def back(self) -> Pace:
        """Half as many: stable's users feel the comparison, or are about to."""
        return replace(self, slots=max(1, self.slots // 2), felt=self.felt + 1, quiet=0)

    def _grown(self, most: int) -> Pace:
        quiet = self.quiet + 1
        if not self.felt:
            return replace(self, slots=min(2 * self.slots, most))
        if quiet < 2 ** (self.felt - 1):
            return replace(self, quiet=quiet)
        return replace(self, slots=min(self.slots + 1, most), quiet=0)


def percentile(times_ms: Sequence[float], share: float = _PERCENTILE) -> float:
    """The smallest time that ``share`` of them do not exceed."""
    return sorted(times_ms)[max(0, -int(-share * len(times_ms) // 1) - 1)]
