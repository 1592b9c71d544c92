"""What stable's users feel of a comparison: their time to the first token while it runs, and while it rests."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

from benchmarks.evaluations.arena import EVALUATE, Arena, Model, NotPlayedError, evaluate
from benchmarks.evaluations.cases import serving
from benchmarks.evaluations.playing import Say
from benchmarks.evaluations.users import Request, Users, users
from devcluster import exposing
from llm_rollout.canary.back_pressure import percentile
from llm_rollout.rollout import Rollout
from llm_rollout.verdict import Fail

MOST_RISE = 1.10
"""Of the users' 99th percentile while a candidate is compared, over the rests before and after, in the median: other
programs on the machine disturb one window or another."""
RATE = 6.0
"""Requests a second."""
WINDOWS, RUNS = 4, 2
"""Comparisons of a run, with rests between them; and runs of a scene."""
_REST_SECONDS = 100.0
_ENDLESS = {"deadline_seconds": 110, "alpha": 1e-9, "beta": 1e-9, "max_pairs": 1_000_000}
"""A comparison that decides nothing, so that it can be asked to go on again and again."""
_SETTLE_SECONDS = 5.0
_LOOK_SECONDS = 5.0
"""Looking takes this machine's time, and a trigger looks when something has changed."""

SCENES: Mapping[str, tuple[str, ...]] = {"seats for everybody": (), "ten seats": ("--max-num-seqs=10",)}
"""Flags of both sides. Users take three seats at a time, and a comparison would like to have eight."""


@dataclass(frozen=True)
class Window:
    """Some time, and the requests that users sent in it."""

    compared: bool
    requests: Sequence[Request]
    seconds: float
    pairs: int
    """Of the comparison, in this window."""
    load: float
    """Of the machine, over its last minute."""

    @property
    def times(self) -> list[float]:
        """To the first token in milliseconds, of requests that were answered, as far as the users could tell."""
        return [one.ttft_ms for one in self.requests if one.ttft_ms is not None and not one.late]


Felt = Sequence[Window]
"""Rest, comparison, rest, and so on to a last rest."""


def measure(arena: Arena, number: int, flags: tuple[str, ...], runs: int, say: Say) -> Iterator[list[Window]]:
    """A scene: one stable with its users, and a candidate as good whose comparison runs, rests and goes on."""
    sides, name = replace(serving(), extra_args=flags), f"us{number:02d}"
    with arena.model(name, sides) as model:
        url = exposing.expose(arena.layout, name, f"{name}-api", None, 0)
        with users(url, name, RATE) as crowd:
            for _ in range(runs):
                rollout = model.candidate(sides, _ENDLESS)
                felt = list(_windows(model, rollout, crowd))
                say(f"p99 while comparing over the rests: {', '.join(f'{one:.2f}' for one in rises(felt))}")
                yield felt
                model.remove(rollout)


def _windows(model: Model, rollout: Rollout, crowd: Users) -> Iterator[Window]:
    pairs = 0
    for number in range(1, WINDOWS + 1):
        yield _rest(crowd)
        began = time.time()
        attempt = replace(rollout, attempt=f"{rollout.run_id}/{number}")
        ended = evaluate(attempt, model.ports, lambda _: None, _LOOK_SECONDS)
        if not isinstance(ended, Fail) or "pairs" not in ended.evidence:
            raise NotPlayedError(f"{model.name}: {EVALUATE}: {ended}")
        so_far, pairs = pairs, ended.evidence["pairs"]
        yield _window(crowd, began, pairs - so_far)
    yield _rest(crowd)


def _rest(crowd: Users) -> Window:
    time.sleep(_SETTLE_SECONDS)
    began = time.time()
    time.sleep(_REST_SECONDS)
    return _window(crowd, began, 0)


def _window(crowd: Users, began: float, pairs: int) -> Window:
    ended = time.time()
    return Window(pairs > 0, crowd.seen(began, ended), ended - began, pairs, os.getloadavg()[0])


def rises(felt: Felt) -> list[float]:
    """Of the 99th percentile of each comparison over that of the rests around it."""
    return [_over(felt[at], felt[at - 1], felt[at + 1]) for at in range(1, len(felt) - 1, 2)]


def noise(felt: Felt) -> list[float]:
    """The same of each rest over the rests before and after it, where there is nothing to be felt."""
    return [_over(felt[at], felt[at - 2], felt[at + 2]) for at in range(2, len(felt) - 2, 2)]


def middle_rise(some: Sequence[Felt]) -> float:
    """Of all comparisons of a scene."""
    return median(one for felt in some for one in rises(felt))


def _over(window: Window, *others: Window) -> float:
    return percentile(window.times, 0.99) / percentile([one for other in others for one in other.times], 0.99)


def failed(windows: Sequence[Window]) -> int:
    """Requests of users that were not answered."""
    return sum(bool(request.failure) for window in windows for request in window.requests)
