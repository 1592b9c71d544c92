"""Rollouts as they could be measured: rounds of 50 pairs of answers, with what may be wrong with either side.

Stable fails 0.5 % of its requests, answers after 300 ms (log-normal, deviation 0.5) with 30 ms between tokens, and is
right in 90 % of its answers; each side alone is wrong in 2 %. The two times of a pair are independent.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import exp, log, sqrt

from llm_rollout.canary.rounds import Answer, Pair

ROUND_PAIRS, HORIZON_PAIRS = 50, 3000
TTFT_MS, SPREAD, ITL_MS, ITL_SPREAD, TOKENS = 300.0, 0.5, 30.0, 0.1, 64
BOTH_WRONG, ALONE_WRONG = 0.08, 0.02
_LONG_PROMPT = 20.0
_FIRST, _LAST = 1000, 2000
"""The middle third, in pairs."""


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
        source, at = random.Random(f"{self.name} {seed}"), 0
        sides = (_Running(self, self.stable, source), _Running(self, self.candidate, source))
        while at < HORIZON_PAIRS:
            size = min(self.round_pairs, HORIZON_PAIRS - at)
            yield [self._pair(source, sides, at + one) for one in range(size)]
            at += size

    def _pair(self, source: random.Random, sides: tuple[_Running, _Running], at: int) -> Pair:
        shared = self.drift * at / HORIZON_PAIRS
        if self.prompt_mix and source.random() < 0.5:  # noqa: PLR2004 - half
            shared += log(_LONG_PROMPT)
        chance = source.random()
        wrong = (chance < BOTH_WRONG or 0.9 <= chance < 0.9 + ALONE_WRONG, chance < BOTH_WRONG + self.lost)  # noqa: PLR2004 - not overlapping
        stable, candidate = (side.answer(at, shared, bad) for side, bad in zip(sides, wrong, strict=True))
        return Pair(stable, candidate)


class _Running:
    """A side in one run, with what it remembers."""

    def __init__(self, world: World, side: Side, source: random.Random) -> None:
        self._world, self._side, self._source = world, side, source
        self._noise = self._last = 0.0
        self._burst = self._wrong_burst = False

    def answer(self, at: int, shared: float, wrong: bool) -> Answer:  # noqa: FBT001 - of this prompt
        world, side, source = self._world, self._side, self._source
        self._window(at)
        incident = _FIRST <= at < _LAST
        if source.random() < self._failing(at):
            return Answer(ok=False)
        times = shared + self._noise + log(side.slower) + (log(world.incident[0]) if incident else 0.0)
        self._last = world.memory * self._last + sqrt(1 - world.memory**2) * source.gauss(0, 1)
        ttft = TTFT_MS * exp(times + side.spread * self._last) * (1 + side.warmup * exp(-at / 100))
        if side.stalls and source.random() < side.stalls:
            ttft *= 5.5
        correct = None if side.no_grades else not (wrong or (self._wrong_burst and source.random() < 0.5))  # noqa: PLR2004 - half
        if side.no_times:
            return Answer(True, correct=correct)
        itl = ITL_MS * side.itl_slower * exp(self._noise + ITL_SPREAD * source.gauss(0, 1))
        return Answer(True, ttft, ttft + itl * (TOKENS - 1), TOKENS, correct)

    def _window(self, at: int) -> None:
        world, source = self._world, self._source
        if world.noise and at % world.noise_requests == 0:
            self._noise = source.gauss(0, world.noise)
        if at % ROUND_PAIRS == 0:
            self._burst = source.random() < world.bursts
            self._wrong_burst = source.random() < world.wrong_bursts

    def _failing(self, at: int) -> float:
        side = self._side
        if side.dead_from is not None and at >= side.dead_from:
            return 1.0
        burst = side.error_burst
        if self._burst or (burst and burst[0] <= at < burst[1]):
            return 0.5
        return side.errors + (self._world.incident[1] if _FIRST <= at < _LAST else 0.0)


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
