"""Live requests of both revisions in the same window, made into pairs that the judge of paired prompts can play.

A gateway shares requests out by chance, so in one window both sides get requests of the same kind, in the same hour, on
the same hardware. So many requests are drawn of each side as the smaller one had, without putting back; who is paired
with whom is chance as well. Where the revisions do not differ, exchanging the sides changes nothing, and that is all
that the judge's bets take for granted.

Metrics keep no single times, only how many lie between two bounds of a histogram. A drawn request gets a time by chance
between its bounds, evenly on a logarithmic scale. That hides what differs within two bounds: times on live traffic are
compared coarsely, the canary before has compared them finely.
"""

from __future__ import annotations

import random
import sys
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from itertools import accumulate, pairwise

from llm_rollout.canary.live_readings import Reading, Times
from llm_rollout.canary.rounds import Answer, Pair
from llm_rollout.canary.rules import Rules

MOST_PAIRS = 500
"""Of one window: more is the same hour once more, and takes longer to judge."""
WEIGHTS: Mapping[str, float] = {"errors": 0.4, "ttft": 0.25, "tail": 0.1, "itl": 0.25}
"""How the chance of a false rollback is shared out: the most to what a user cannot overlook. Answers have no grades."""
ROUND_PAIRS = 20
"""A window of many seconds outlasts what one side suffers alone, so that few requests of it may make a round."""
_MS = 1000.0
_BEYOND = 2.0
"""How far a time beyond the last bound is taken to be: up to twice as long."""
_TOKENS = 2
"""One time between tokens is drawn for each request, so a request is as if it had two."""


def rules(alpha: float) -> Rules:
    """The judge's rules for live windows: it rolls back at 1 / alpha, and neither promotes nor ends by itself.

    How long to look is up to whoever moves the requests: margins as narrow as the canary's cannot be shown by
    histograms.
    """
    return Rules(
        alpha=alpha, round_pairs=ROUND_PAIRS, cap_pairs=sys.maxsize, min_rounds=sys.maxsize, warmup_pairs=0,
        required=tuple(WEIGHTS), weights=WEIGHTS,
    )  # fmt: skip


def without_times(found: list[Pair]) -> list[Pair]:
    """Whether requests failed, and no more: for windows in which the candidate had more to do than stable."""
    return [Pair(Answer(stable.ok), Answer(candidate.ok)) for stable, candidate in found]


def pairs(stable: Reading, candidate: Reading, seed: str) -> list[Pair]:
    """As many pairs as the side with fewer finished requests has; none where one side had no request at all.

    ``seed`` is of the window: looking twice draws the same.
    """
    number = min(stable.finished, candidate.finished, MOST_PAIRS)
    source = random.Random(seed)  # noqa: S311 - not a secret
    sides = (list(_answers(side, number, source)) for side in (stable, candidate))
    return list(map(Pair, *sides))


def _answers(seen: Reading, number: int, source: random.Random) -> Iterator[Answer]:
    times = zip(_drawn(seen.ttft, number, source), _drawn(seen.itl, number, source), strict=True)
    for request, (ttft, itl) in zip(source.sample(range(seen.finished), number), times, strict=True):
        if request < seen.errors:
            yield Answer(ok=False)
        elif ttft is None or itl is None:
            yield Answer(ok=True, ttft_ms=ttft)
        else:
            yield Answer(ok=True, ttft_ms=ttft, total_ms=ttft + itl, tokens=_TOKENS)


def _drawn(times: Times, number: int, source: random.Random) -> Iterator[float | None]:
    """Times in milliseconds; None where fewer are known than requests ended."""
    bounds = [float(bound) for bound in times.bounds]
    counts = [after - before for before, after in pairwise([0, *(times.kept[bound] for bound in times.bounds)])]
    within = list(accumulate(max(count, 0) for count in counts))
    known = source.sample(range(times.count), min(number, times.count)) if bounds else []
    for place in known:
        yield _between(bounds, bisect_right(within, place), source)
    yield from [None] * (number - len(known))


def _between(bounds: list[float], index: int, source: random.Random) -> float:
    """A time of the bucket with this index; the one after the last bound has no upper bound of its own."""
    lower = bounds[index - 1] if index else bounds[0] / _BEYOND
    upper = bounds[index] if index < len(bounds) else bounds[-1] * _BEYOND
    return float(_MS * lower * (upper / lower) ** source.random())
