"""Rollouts as they could be measured: rounds of 50 pairs of answers, with what may be wrong with either side.

Stable fails 0.5 % of its requests, answers after 300 ms (log-normal, deviation 0.5) with 30 ms between tokens, and is
right in 90 % of its answers; each side alone is wrong in 2 %. The two times of a pair are independent.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import log, sqrt
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from llm_rollout.canary.rounds import Answer, Pair

ROUND_PAIRS, HORIZON_PAIRS = 50, 3000
TTFT_MS, SPREAD, ITL_MS, ITL_SPREAD, TOKENS = 300.0, 0.5, 30.0, 0.1, 64
BOTH_WRONG, ALONE_WRONG = 0.08, 0.02
_LONG_PROMPT, _STALL = 20.0, 5.5
_FIRST, _LAST = 1000, 2000
"""The middle third, in pairs."""
_AT = np.arange(HORIZON_PAIRS)
_INCIDENT = (_AT >= _FIRST) & (_AT < _LAST)
_FAILED = Answer(ok=False)

Floats = NDArray[np.floating[Any]]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Side:
    """One revision: what it does, and what happens to it alone."""

    errors: float = 0.005
    slower: float = 1.0
    itl_slower: float = 1.0
    spread: float = SPREAD
    stalls: float = 0.0
    """Part of the requests that take 5.5 times as long."""
    warmup: float = 0.0
    """The first request takes so many times longer, the excess falls by e every 100 requests."""
    dead_from: int | None = None
    error_burst: tuple[int, int] | None = None
    """Between these pairs half of the requests fail."""
    no_times: bool = False
    no_grades: bool = False


@dataclass(frozen=True)
class World:
    """Both sides and what they share."""

    name: str
    candidate: Side = field(default_factory=Side)
    stable: Side = field(default_factory=Side)
    lost: float = ALONE_WRONG
    """Part of the prompts that the candidate alone gets wrong."""
    incident: tuple[float, float] = (1.0, 0.0)
    """In the middle third both are so many times slower and fail so much more often."""
    noise: float = 0.0
    noise_requests: int = 50
    """Deviation of what slows each side alone, and for how many requests it stays."""
    bursts: float = 0.0
    """Chance of each window of 50 requests of a side that half of them fail."""
    wrong_bursts: float = 0.0
    memory: float = 0.0
    """Correlation of a side's consecutive times."""
    drift: float = 0.0
    """Both sides' logarithm of times grows by so much until the end."""
    prompt_mix: bool = False
    """Half of the prompts take 20 times as long, on both sides."""
    round_pairs: int = ROUND_PAIRS

    def rounds(self, seed: int) -> Iterator[list[Pair]]:
        """What is measured, up to the horizon."""
        source = np.random.default_rng([seed, crc32(self.name.encode())])
        shared = self.drift * _AT / HORIZON_PAIRS
        if self.prompt_mix:
            shared = shared + log(_LONG_PROMPT) * _chance(source, 0.5)
        luck = source.random(HORIZON_PAIRS)
        wrong = (luck < BOTH_WRONG) | (luck >= 1 - ALONE_WRONG), luck < BOTH_WRONG + self.lost
        sides = (self.stable, wrong[0]), (self.candidate, wrong[1])
        stable, candidate = (_answers(self, side, source, shared, bad) for side, bad in sides)
        pairs = list(map(Pair, stable, candidate))
        for start in range(0, HORIZON_PAIRS, self.round_pairs):
            yield pairs[start : start + self.round_pairs]


def _answers(world: World, side: Side, source: np.random.Generator, shared: Floats, wrong: Flags) -> list[Answer]:
    """What one side answers in one run."""
    fails = source.random(HORIZON_PAIRS) < _failing(world, side, source)
    own = _noise(world, source)
    shared = shared + own + _INCIDENT * log(world.incident[0])
    ttft = TTFT_MS * np.exp(shared + side.spread * _deviations(world, source))
    ttft *= side.slower * (1 + side.warmup * np.exp(-_AT / 100)) * np.where(_chance(source, side.stalls), _STALL, 1.0)
    itl = ITL_MS * side.itl_slower * np.exp(own + ITL_SPREAD * source.normal(size=HORIZON_PAIRS))
    wrong = wrong | (_windows(source, world.wrong_bursts, ROUND_PAIRS) & _chance(source, 0.5))
    grades: list[Any] = [None] * HORIZON_PAIRS if side.no_grades else (~wrong).tolist()
    columns = zip(fails.tolist(), ttft.tolist(), (ttft + itl * (TOKENS - 1)).tolist(), grades, strict=True)
    found = [
        _FAILED if failed else Answer(True, first, total, TOKENS, grade) for failed, first, total, grade in columns
    ]
    return [each._replace(ttft_ms=None, total_ms=None, tokens=None) for each in found] if side.no_times else found


def _failing(world: World, side: Side, source: np.random.Generator) -> Floats:
    """The chance of each request to fail."""
    found = side.errors + _INCIDENT * world.incident[1]
    if side.error_burst:
        found[slice(*side.error_burst)] = 0.5
    found[_windows(source, world.bursts, ROUND_PAIRS)] = 0.5
    if side.dead_from is not None:
        found[side.dead_from :] = 1.0
    return found


def _noise(world: World, source: np.random.Generator) -> Floats:
    """What slows a side alone for some requests."""
    windows = source.normal(0, world.noise, -(-HORIZON_PAIRS // world.noise_requests))
    return np.repeat(windows, world.noise_requests)[:HORIZON_PAIRS]


def _deviations(world: World, source: np.random.Generator) -> Floats:
    """Of the logarithms of the times, with memory where the world has one."""
    fresh = source.normal(size=HORIZON_PAIRS)
    if not world.memory:
        return fresh
    found, last, new = [], 0.0, sqrt(1 - world.memory**2)
    for each in fresh.tolist():
        last = world.memory * last + new * each
        found.append(last)
    return np.array(found)


def _chance(source: np.random.Generator, part: float) -> Flags:
    return source.random(HORIZON_PAIRS) < part


def _windows(source: np.random.Generator, part: float, requests: int) -> Flags:
    """Requests of windows that have a chance each."""
    return np.repeat(source.random(-(-HORIZON_PAIRS // requests)) < part, requests)[:HORIZON_PAIRS]


NULLS = (
    World("A/A"),
    World("incident on both", incident=(1.5, 0.025)),
    World("noise of each side", noise=0.1),
    World("bursts of errors", bursts=0.01),
)
REGRESSIONS = (
    World("errors 2 %", Side(errors=0.02)),
    World("TTFT +10 %", Side(slower=1.1)),
    World("p99 x2, wider", Side(spread=SPREAD + log(2) / 2.326)),
    World("p99 x2, stalls", Side(stalls=0.03)),
    World("accuracy 87 %", lost=0.05),
    World("accuracy 80 %", lost=0.12),
)
QUIET = (
    World("latency with memory 0.5", memory=0.5),
    World("latency with memory 0.9", memory=0.9),
    World("candidate warms up", Side(warmup=1.0)),
    World("candidate warms up from 4 times", Side(warmup=3.0)),
    World("both drift by half", drift=log(1.5)),
    World("prompts 20 times as long", prompt_mix=True),
    World("host 3 % slower", Side(slower=1.03, itl_slower=1.03)),
    World("both down in the middle", incident=(1.0, 0.995)),
    World("20 % errors on both", incident=(1.0, 0.2)),
    World("burst of errors on stable", stable=Side(error_burst=(100, 200))),
    World("bursts of wrong answers", wrong_bursts=0.03),
    World("noise of 150 requests", noise=0.1, noise_requests=150),
    World("3 % failures on both", Side(errors=0.03), Side(errors=0.03)),
    World("rounds of 7 pairs", round_pairs=7),
)
WORSE = (
    World("accuracy lost on 10 % of prompts", lost=0.10),
    World("20 % faster, less accurate", Side(slower=0.8), lost=0.12),
    World("time between tokens +20 %", Side(itl_slower=1.2)),
    World("TTFT +10 % among prompts 20 times as long", Side(slower=1.1), prompt_mix=True),
    World("candidate dead from pair 400", Side(dead_from=400)),
    World("errors 2 % after a burst on stable", Side(errors=0.02), Side(error_burst=(100, 200))),
)
HOLD = (
    World("stable dead from pair 300", stable=Side(dead_from=300)),
    World("stable dead from pair 700", stable=Side(dead_from=700)),
    World("no times", Side(no_times=True), Side(no_times=True)),
    World("graded on one side only", stable=Side(no_grades=True)),
)
