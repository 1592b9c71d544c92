"""Rollouts as they could be measured: rounds of 50 pairs of answers, with what may be wrong with either side.

Stable fails 0.5 % of its requests, answers after 300 ms (log-normal, deviation 0.5) with 30 ms between tokens, and is
right in 90 % of its answers; each side alone is wrong in 2 %. The two times of a pair are independent. A world says
what is otherwise in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import cycle
from math import log, sqrt
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from llm_rollout.canary.rounds import Answer, Pair

ROUND_PAIRS, HORIZON_PAIRS = 50, 3000
TTFT_MS, SPREAD, ITL_MS, ITL_SPREAD, TOKENS = 300.0, 0.5, 30.0, 0.1, 64
BOTH_WRONG, ALONE_WRONG = 0.08, 0.02
MOST_TOKENS, STEADY_ITL_SPREAD = 300, 0.02
_LONG_PROMPT, _STALL = 20.0, 5.5
_SHORT_PROMPT_TOKENS = 200
_AT = np.arange(HORIZON_PAIRS)
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
    stalls_ms: float = 0.0
    """Or so much longer instead."""
    warmup: float = 0.0
    """The first request takes so many times longer; the excess falls by e every ``warmup_requests``."""
    warmup_requests: int = 100
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
    """For a third of the run both are so many times slower and fail so much more often."""
    incident_third: int = 1
    noise: float = 0.0
    noise_requests: int = 50
    """Deviation of what slows each side alone, and for how many requests it stays."""
    out_of_step: int = 0
    """By so many requests noise and bursts begin later than rounds."""
    bursts: float = 0.0
    """Chance of each window of 50 requests of a side that half of them fail."""
    wrong_bursts: float = 0.0
    memory: float = 0.0
    """Correlation of a side's consecutive times."""
    drift: float = 0.0
    """Both sides' logarithm of times grows by so much until the end."""
    prompt_mix: bool = False
    """Half of the prompts take 20 times as long, on both sides."""
    other_prompts: bool = False
    """The two prompts of a pair differ, and how long they are is known."""
    alike: float = 0.0
    """Part of the variance of times that is the prompt's, on both sides."""
    whole_ms: bool = False
    """Times are told in whole milliseconds, tokens follow each other evenly, up to 300 of them by prompt."""
    other_answers: bool = False
    """What one side gets wrong says nothing about the other."""
    graded: float = 1.0
    """Part of the prompts that have a grade."""
    rounds_pairs: tuple[int, ...] = (ROUND_PAIRS,)
    """Sizes of the rounds, in turn."""

    def rounds(self, seed: int) -> Iterator[list[Pair]]:
        """What is measured, up to the horizon."""
        source = np.random.default_rng([seed, crc32(self.name.encode())])
        prompts = _prompts(self, source)
        other = _prompts(self, source) if self.other_prompts else prompts
        stable_luck, luck = source.random((2, HORIZON_PAIRS))
        luck = luck if self.other_prompts or self.other_answers else stable_luck
        stable_wrong = (stable_luck < BOTH_WRONG) | (stable_luck >= 1 - ALONE_WRONG)
        sides = (self.stable, prompts, stable_wrong), (self.candidate, other, luck < BOTH_WRONG + self.lost)
        pairs = list(map(Pair, *(_answers(self, side, source, asked, wrong) for side, asked, wrong in sides)))
        sizes = cycle(self.rounds_pairs)
        while pairs:
            size = next(sizes)
            yield pairs[:size]
            pairs = pairs[size:]


class _Prompts(NamedTuple):
    """What was asked, and when."""

    slowness: Floats
    """Logarithm of how many times longer times are than usual."""
    alike: Floats
    """What both sides share of the deviations."""
    lengths: list[int | None]
    tokens: NDArray[np.int64]
    graded: Flags


def _prompts(world: World, source: np.random.Generator) -> _Prompts:
    long = _chance(source, 0.5 if world.prompt_mix else 0.0)
    lengths = np.where(long, int(_LONG_PROMPT) * _SHORT_PROMPT_TOKENS, _SHORT_PROMPT_TOKENS)
    return _Prompts(
        world.drift * _AT / HORIZON_PAIRS + _incident(world) * log(world.incident[0]) + long * log(_LONG_PROMPT),
        sqrt(world.alike) * source.normal(size=HORIZON_PAIRS),
        lengths.tolist() if world.other_prompts else [None] * HORIZON_PAIRS,
        source.integers(1, MOST_TOKENS + 1, HORIZON_PAIRS) if world.whole_ms else np.full(HORIZON_PAIRS, TOKENS),
        _chance(source, world.graded),
    )


def _answers(world: World, side: Side, source: np.random.Generator, asked: _Prompts, wrong: Flags) -> list[Answer]:
    """What one side answers in one run."""
    fails = source.random(HORIZON_PAIRS) < _failing(world, side, source)
    ttft, total = _times(world, side, source, asked)
    wrong = wrong | (_windows(world, source, world.wrong_bursts) & _chance(source, 0.5))
    known = asked.graded & (not side.no_grades)
    grades = [right if graded else None for right, graded in zip((~wrong).tolist(), known.tolist(), strict=True)]
    columns = zip(ttft.tolist(), total.tolist(), asked.tokens.tolist(), grades, asked.lengths, strict=True)
    found = [Answer(True, *seen) for seen in columns]
    if side.no_times:
        found = [answer._replace(ttft_ms=None, total_ms=None, tokens=None) for answer in found]
    return [_FAILED if failed else answer for failed, answer in zip(fails.tolist(), found, strict=True)]


def _failing(world: World, side: Side, source: np.random.Generator) -> Floats:
    """The chance of each request to fail."""
    found = side.errors + _incident(world) * world.incident[1]
    if side.error_burst:
        found[slice(*side.error_burst)] = 0.5
    found[_windows(world, source, world.bursts)] = 0.5
    if side.dead_from is not None:
        found[side.dead_from :] = 1.0
    return found


def _times(world: World, side: Side, source: np.random.Generator, asked: _Prompts) -> tuple[Floats, Floats]:
    """To the first token and to the last, in milliseconds."""
    own = _in_windows(world, source.normal(0, world.noise, HORIZON_PAIRS), world.noise_requests)
    deviations = asked.alike + sqrt(1 - world.alike) * _deviations(world, source)
    ttft = TTFT_MS * side.slower * np.exp(asked.slowness + own + side.spread * deviations)
    ttft *= 1 + side.warmup * np.exp(-_AT / side.warmup_requests)
    stalled = _chance(source, side.stalls)
    ttft = ttft + stalled * (side.stalls_ms or (_STALL - 1) * ttft)
    spread = STEADY_ITL_SPREAD if world.whole_ms else ITL_SPREAD
    itl = ITL_MS * side.itl_slower * np.exp(own + spread * source.normal(size=HORIZON_PAIRS))
    total = ttft + itl * (asked.tokens - 1)
    return (np.rint(ttft), np.rint(total)) if world.whole_ms else (ttft, total)


def _incident(world: World) -> Flags:
    return np.equal(_AT // (HORIZON_PAIRS // 3), world.incident_third)


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


def _windows(world: World, source: np.random.Generator, part: float) -> Flags:
    """Requests of windows that have a chance each."""
    return _in_windows(world, source.random(HORIZON_PAIRS), ROUND_PAIRS) < part


def _in_windows(world: World, values: Floats, requests: int) -> Floats:
    """Each of the values for so many requests."""
    return values[(_AT + world.out_of_step) // requests]


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
    World("latency with memory 0.7", memory=0.7),
    World("latency with memory 0.9", memory=0.9),
    World("candidate warms up", Side(warmup=1.0)),
    World("candidate warms up from 4 times", Side(warmup=3.0)),
    World("candidate warms up slowly", Side(warmup=1.0, warmup_requests=200)),
    World("both drift by half", drift=log(1.5)),
    World("prompts 20 times as long", prompt_mix=True),
    World("other prompts on each side, lengths known", prompt_mix=True, other_prompts=True),
    World("half of the spread is the prompt's", alike=0.5),
    World("whole milliseconds, 1 to 300 tokens", whole_ms=True, alike=0.5),
    World("other mistakes on each side", other_answers=True),
    World("a grade on every second prompt", graded=0.5),
    World("host 3 % slower", Side(slower=1.03, itl_slower=1.03)),
    World("incident on both at first", incident=(1.5, 0.03), incident_third=0),
    World("incident on both at last", incident=(1.5, 0.03), incident_third=2),
    World("both down in the middle", incident=(1.0, 0.995)),
    World("20 % errors on both", incident=(1.0, 0.2)),
    World("burst of errors on stable", stable=Side(error_burst=(100, 200))),
    World("bursts of wrong answers", wrong_bursts=0.03),
    World("noise out of step with rounds", noise=0.1, out_of_step=25),
    World("bursts of errors out of step", bursts=0.01, out_of_step=20),
    World("noise of 150 requests", noise=0.1, noise_requests=150),
    World("3 % failures on both", Side(errors=0.03), Side(errors=0.03)),
    World("no failures", Side(errors=0.0), Side(errors=0.0)),
    World("rounds of 7 pairs", rounds_pairs=(7,)),
    World("rounds of 1 to 250 pairs", rounds_pairs=(10, 250, 1, 99, 25)),
)
WORSE = (
    World("accuracy lost on 10 % of prompts", lost=0.10),
    World("20 % faster, less accurate", Side(slower=0.8), lost=0.12),
    World("time between tokens +20 %", Side(itl_slower=1.2)),
    World("time between tokens +20 %, whole milliseconds", Side(itl_slower=1.2), whole_ms=True),
    World("TTFT +10 % among prompts 20 times as long", Side(slower=1.1), prompt_mix=True),
    World("TTFT +10 %, half of the spread is the prompt's", Side(slower=1.1), alike=0.5),
    World("TTFT +10 % and an incident on both", Side(slower=1.1), incident=(1.5, 0.025)),
    World("3 % stall for 2 s", Side(stalls=0.03, stalls_ms=2000)),
    World("candidate dead from pair 400", Side(dead_from=400)),
    World("errors 2 % after a burst on stable", Side(errors=0.02), Side(error_burst=(100, 200))),
)
HIDDEN = (
    World("TTFT +10 % in noise of each side", Side(slower=1.1), noise=0.1),
    World("errors 2 % and an incident on both", Side(errors=0.02), incident=(1.5, 0.025)),
    World("accuracy 87 %, other mistakes on each side", lost=0.05, other_answers=True),
    World("accuracy 87 %, a grade on every second prompt", lost=0.05, graded=0.5),
)
"""Regressions that 3,000 pairs do not always show: what is wrong is small beside what is up to chance."""
HOLD = (
    World("stable dead from pair 300", stable=Side(dead_from=300)),
    World("stable dead from pair 700", stable=Side(dead_from=700)),
    World("no times", Side(no_times=True), Side(no_times=True)),
    World("graded on one side only", stable=Side(no_grades=True)),
)
