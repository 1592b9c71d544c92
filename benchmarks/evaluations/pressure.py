"""What stable's users feel of a comparison: their time to the first token before, during and after it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from benchmarks.evaluations.arena import Arena, Judged, Model
from benchmarks.evaluations.cases import serving
from benchmarks.evaluations.playing import Say, describe
from benchmarks.evaluations.users import Request, Users, users
from devcluster import exposing
from llm_rollout.canary.back_pressure import percentile
from llm_rollout.rollout import Rollout

MOST_RISE = 1.10
"""Of the users' 99th percentile while a candidate is compared, over the one before and after, in the median of the
comparisons: other programs on the machine disturb one or another."""
RATE = 6.0
"""Requests a second."""
RUNS = 5
QUIET_SECONDS = 90.0
_SETTLE_SECONDS = 10.0
QUIET = ("before", "after")
PHASES = ("before", "during", "after")

SCENES: Mapping[str, tuple[str, ...]] = {"seats for everybody": (), "ten seats": ("--max-num-seqs=10",)}
"""Flags of both sides. Users take three seats at a time, and a comparison would like to have eight."""


@dataclass(frozen=True)
class Felt:
    """One comparison, and the requests of users in each phase."""

    requests: Mapping[str, Sequence[Request]]
    judged: Judged


def measure(arena: Arena, number: int, flags: tuple[str, ...], runs: int, say: Say) -> Iterator[Felt]:
    """A scene: one stable with its users, and so many candidates as good, one after the other."""
    sides, name = replace(serving(), extra_args=flags), f"us{number:02d}"
    with arena.model(name, sides) as model:
        url = exposing.expose(arena.layout, name, f"{name}-api", None, 0)
        with users(url, name, RATE) as crowd:
            for _ in range(runs):
                rollout = model.candidate(sides, {})
                felt = _compare(model, rollout, crowd)
                say(f"p99 times {rise(felt):.2f}; {describe(felt.judged)}")
                yield felt
                model.remove(rollout)


def _compare(model: Model, rollout: Rollout, crowd: Users) -> Felt:
    time.sleep(_SETTLE_SECONDS)
    began = time.time()
    time.sleep(QUIET_SECONDS)
    compared = time.time()
    judged = model.evaluate(rollout)
    ended = time.time()
    time.sleep(_SETTLE_SECONDS)
    quiet = time.time()
    time.sleep(QUIET_SECONDS)
    spans = {"before": (began, compared), "during": (compared, ended), "after": (quiet, time.time())}
    return Felt({phase: crowd.seen(*span) for phase, span in spans.items()}, judged)


def times(felt: Sequence[Felt], *phases: str) -> list[float]:
    """In milliseconds, of requests that were answered, as far as the users could tell."""
    some = (request for one in felt for phase in phases for request in one.requests[phase])
    return [one.ttft_ms for one in some if one.ttft_ms is not None and not one.late]


def rise(felt: Felt, phase: str = "during") -> float:
    """Of the 99th percentile of a phase over the one before and after."""
    return percentile(times([felt], phase), 0.99) / percentile(times([felt], *QUIET), 0.99)


def failed(felt: Sequence[Felt], phase: str) -> int:
    """Requests of users that were not answered."""
    return sum(bool(request.failure) for one in felt for request in one.requests[phase])
