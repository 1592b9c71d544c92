"""How much a comparison may ask of stable while stable serves users: pure decisions on what its metrics say.

The room comes from vLLM's own gauges: what is free of the KV cache, and of the seats. It tells no number of seats, but
a queue shows how many requests run at once when no more can; until there was one, stable is only known to bear what its
users ask. A gauge cannot tell what a request more costs those in flight, so the times of stable's own answers are
watched as well: they are measured with a single request in flight, and the number only grows while they stay near that.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf

_SERIES = re.compile(
    r"^vllm:(num_requests_waiting|num_requests_running|kv_cache_usage_perc)(?:\{[^}]*\})?\s+(\S+)", re.MULTILINE
)

FULL = 0.9
"""Of the KV cache: beyond, vLLM soon preempts requests, which users see as stalls."""
_FORGOTTEN = 1.002
"""Seats that are believed in at each look more than at the one before: in the six minutes of 700 looks four times as
many, so that a queue that was no matter of seats is forgotten, and seats are not tried out often enough to be felt."""
ALLOWED_RISE = 1.05
"""Of stable's 90th percentile of TTFT over the one with a single request in flight. Users may feel a tenth, and their
99th percentile rises about twice as much (seen on the devcluster)."""
GROWING_RISE = 1.025
"""Half of that: beyond, one request more could be the one that is felt."""
MOST_QUIET_ROUNDS = 16
"""No more are waited for: what was felt may have been others."""
_PERCENTILE = 0.9
"""A round of 50 knows this one; its 99th would be its slowest answer alone."""
_LEAST_TIMES = 20
_USUAL, _SEEN = 500, 200
"""Times that are remembered, the latest: ten rounds to know what is usual, and four so that a change shows at once."""


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


@dataclass(frozen=True)
class Seats:
    """How many requests stable runs at once, as far as a queue has shown it; more, the longer none has been seen."""

    known: float | None = None

    def after(self, seen: Load | None, limits: Limits) -> Seats:
        """What is known after another look."""
        if seen is None:
            return self
        if queues(seen, limits) and seen.running:
            return Seats(seen.running)
        return self if self.known is None else Seats(max(self.known * _FORGOTTEN, seen.running))

    def free(self, others: float) -> float:
        """What others leave; before a queue came up, as much again as they have: stable is seen to bear that."""
        if self.known is not None:
            return self.known - others
        return others or inf


def queues(seen: Load, limits: Limits) -> bool:
    """Whether more requests wait for room than may."""
    return seen.waiting > limits.max_waiting


def room(seen: Load | None, ours: int, limits: Limits, seats: Seats) -> int:
    """How many requests the comparison may have in flight on stable, ``ours`` among them; 0 means to wait.

    The free part of the KV cache holds as many requests as the used part holds now, in proportion. Without gauges the
    room is not known, and one request at a time is asked.
    """
    if seen is None:
        return min(1, limits.most)
    if queues(seen, limits) or seen.cache_usage >= FULL:
        return 0
    others = max(0.0, seen.running - ours)
    seated = _part(limits, seats.free(others))
    if not others or seats.known is None:
        seated = max(1, seated)  # One is no matter to seats that nobody wants, or that nobody has seen full.
    cached = (1 - seen.cache_usage) * seen.running / seen.cache_usage if others and seen.cache_usage else inf
    return max(0, min(seated, max(1, _part(limits, cached))))


def _part(limits: Limits, free: float) -> int:
    """What may be taken of so many requests that have room."""
    return int(min(limits.most, limits.share_of_capacity * free))


@dataclass(frozen=True)
class Pace:
    """How many requests may be in flight as far as stable shows; begins with one, to learn what is usual.

    The number grows by one after a quiet round, and is halved when something is felt; every time that happens it takes
    twice as many quiet rounds to grow again: whoever tries where the limit is lets users feel it.
    """

    slots: int = 1
    usual: tuple[float, ...] = ()
    """Stable's times to the first token with one request in flight, in milliseconds. With more in flight where those
    were shorter: then something else had made stable slow."""
    seen: tuple[float, ...] = ()
    """The same with the present number in flight."""
    felt: int = 0
    """How often stable's times have risen, or requests queued."""
    quiet: int = 0
    """Rounds without that since the number changed."""

    @property
    def rise(self) -> float:
        """Of stable's percentile with the present number in flight over the usual one."""
        return percentile(self.seen) / percentile(self.usual) if self.seen and self.usual else 1.0

    def after(self, times_ms: Sequence[float], most: int) -> Pace:
        """The pace after a round in which stable's answers took ``times_ms`` to their first token."""
        if len(times_ms) < _LEAST_TIMES:
            return self
        if self.slots == 1:
            return replace(self, usual=(*self.usual, *times_ms)[-_USUAL:]).onwards(most)
        known = replace(self, seen=(*self.seen, *times_ms)[-_SEEN:])
        if known.rise < 1 / ALLOWED_RISE:
            known = replace(known, usual=known.seen)
        if known.rise > ALLOWED_RISE:
            return known.back()
        return known.onwards(most) if known.rise <= GROWING_RISE else replace(known, quiet=0)

    def back(self) -> Pace:
        """Half as many: stable's users feel the comparison, or are about to."""
        return replace(self, slots=max(1, self.slots // 2), seen=(), felt=self.felt + 1, quiet=0)

    def onwards(self, most: int) -> Pace:
        """After a quiet round: more, if that was long enough."""
        quiet = self.quiet + 1
        if self.felt and quiet < min(2 ** (self.felt - 1), MOST_QUIET_ROUNDS):
            return replace(self, quiet=quiet)
        slots = min(self.slots + 1, most)
        return replace(self, slots=slots, seen=self.seen if slots == self.slots else (), quiet=0)


def percentile(times_ms: Sequence[float], share: float = _PERCENTILE) -> float:
    """The smallest time that ``share`` of them do not exceed."""
    return sorted(times_ms)[max(0, -int(-share * len(times_ms) // 1) - 1)]
