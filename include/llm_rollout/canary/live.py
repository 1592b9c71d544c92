"""The judge on live traffic after the switch: one side only, so it is held against what the old revision did before.

Nothing pairs a live request with one of the old revision: hours differ, users differ, and what is slow for a minute may
be the hour's fault. So the limits are wide, and a window of seconds is one piece of evidence, however many requests
fail in it. A window's share of failed or slow requests multiplies each bet of a pot by

    1 + stake * (share / limit - 1),    at most the metric's MOST_A_WINDOW,

which is at most 1 on average where the share is the limit or less, whatever happened inside the window: requests need
not be independent of each other (betting on a bounded mean: Waudby-Smith and Ramdas, Estimating means of bounded random
variables by betting).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from llm_rollout.canary import bets, trail
from llm_rollout.canary.bets import STAKES, Pot
from llm_rollout.canary.live_readings import Reading, total_since

ERRORS = "errors"
WEIGHTS: Mapping[str, float] = {ERRORS: 0.5, "ttft": 0.25, "itl": 0.25}
"""How the chance of a false rollback is shared out. Half to what a user cannot overlook."""

MOST_A_WINDOW: Mapping[str, float] = {ERRORS: 5.0, "ttft": 1.7, "itl": 1.7}
"""With alpha at 5 % three windows full of errors end the bake, two do not; times take ten windows or more: a rush of
a few minutes makes every revision slow."""

TIMES_OVER_HISTORY = 2.0
"""A share may double: hours differ by so much where nothing is wrong."""
LEAST_ERROR_LIMIT = 0.01
"""An old revision that never failed is owed no perfection: one in a hundred is what users report."""
LEAST_SLOW_LIMIT = 0.03
"""The same for slow requests: where history has next to none beyond a bound, a few are no news."""
LONGER_ON_AVERAGE = 1.25
"""Slow requests count in a window whose mean time is longer than before by this factor. Histograms are coarse: where
all times lie just below a bound, a hair's breadth would carry all of them over it."""

QUANTILES = (0.90, 0.95, 0.99)
FEWEST_KNOWN = 200
"""Requests of the old revision, besides the canary's, below which its rates are not known."""
WARMUP_REQUESTS = 250
"""The first requests whose times do not count: caches are empty and graphs are captured, as in the canary."""
KEPT_BACK = 0.5
"""Part of a new pot that is staked bit by bit: what breaks after hours must be found as fast as what breaks at once,
and bets that were placed at the switch have lost nearly all by then."""
_NEW: Pot = ((1 - KEPT_BACK) / 3, (1 - KEPT_BACK) / 3, (1 - KEPT_BACK) / 3, KEPT_BACK)
_PATIENCE_WINDOWS = 20
"""Half of what is kept back is staked in the first so many windows, half of the rest in twice as many, and so on."""


class Limit(NamedTuple):
    """What the old revision did, and the share that is bearable therefore."""

    metric: str
    """``errors``, ``ttft`` or ``itl``."""
    bound: str
    """Seconds, as the histogram's ``le`` writes them; requests beyond are slow. Empty for errors."""
    before: float
    """The old revision's share, 0 to 1; below 0 where it is not known."""
    most: float
    """The share up to which nothing is wrong."""
    mean_seconds: float = 0.0
    """A window's mean time up to which nothing is wrong."""

    @property
    def name(self) -> str:
        """For pots and people."""
        return f"{self.metric} > {self.bound} s" if self.bound else self.metric

    @property
    def known(self) -> bool:
        """Whether there was a history to take it from."""
        return self.before >= 0


class Seen(NamedTuple):
    """Counts of one limit since the watch began, times without the warm-up."""

    bad: int = 0
    of: int = 0
    seconds: float = 0.0
    """Sum of the times."""


@dataclass(frozen=True)
class Standing:
    """Where the watch stands; small, and all that the next window needs."""

    limits: tuple[Limit, ...]
    until: float
    """Seconds since the epoch: the end of the last window, at first the beginning."""
    readings: Mapping[str, Reading]
    """Each leader's counters at that moment."""
    windows: int = 0
    requests: int = 0
    pots: Mapping[str, Pot] = field(default_factory=dict)
    seen: Mapping[str, Seen] = field(default_factory=dict)
    trail: tuple[Mapping[str, float], ...] = ()
    """Each metric's wealth after the windows."""
    crossed: str = ""
    """The metric that convinced; final once it stands."""


def limits(history: Reading | None, canary_requests: int, unknown_error_rate: float) -> tuple[Limit, ...]:
    """What is bearable after this history.

    Args:
        history: The old revision's counters; None where there was none or nobody could read them.
        canary_requests: So many of them came from the comparison, short prompts from one place. They count for errors;
            times are known only where users' requests are most.
        unknown_error_rate: The limit on errors where the history is too short.
    """
    if history is None or history.finished < FEWEST_KNOWN:
        return (Limit(ERRORS, "", -1.0, unknown_error_rate),)
    rate = history.errors / history.finished
    errors = Limit(ERRORS, "", rate, max(TIMES_OVER_HISTORY * rate, LEAST_ERROR_LIMIT))
    if errors.most >= 1:
        return ()
    users = history.finished - canary_requests
    if users < max(FEWEST_KNOWN, canary_requests):
        return (errors,)
    return (errors, *_slow_limits("ttft", history), *_slow_limits("itl", history))


def begin(held: tuple[Limit, ...], readings: Mapping[str, Reading], now: float) -> Standing:
    """The standing before the first window."""
    return Standing(held, now, readings, pots={limit.name: _NEW for limit in held})


def since(standing: Standing, readings: Mapping[str, Reading]) -> Reading:
    """What happened after the last window, summed over leaders."""
    return total_since(standing.readings, readings)


def after(standing: Standing, readings: Mapping[str, Reading], now: float, alpha: float) -> Standing:
    """The standing after a window that ends now. One without requests is no evidence and moves nothing."""
    window = since(standing, readings)
    if not window.finished:
        return standing
    warm = standing.requests >= WARMUP_REQUESTS
    counts = {limit.name: _counts(limit, window, warm=warm) for limit in standing.limits}
    played = {limit.name: _played(standing.pots[limit.name], limit, counts[limit.name]) for limit in standing.limits}
    pots = {name: _staked(pot, standing.windows) for name, pot in played.items()}
    seen = {name: _added(standing.seen.get(name, Seen()), more) for name, more in counts.items()}
    moved = replace(
        standing, until=now, readings=readings, windows=standing.windows + 1,
        requests=standing.requests + window.finished, pots=pots, seen=seen,
    )  # fmt: skip
    held = by_metric(moved)
    crossed = standing.crossed or (
        max(held, key=lambda name: WEIGHTS[name] * held[name]) if wealth(moved) >= 1 / alpha else ""
    )
    return replace(moved, trail=trail.thinned(standing.trail, held, moved.windows), crossed=crossed)


def by_metric(standing: Standing) -> dict[str, float]:
    """The wealth of each metric's bets that the new revision is worse: the mean over its limits."""
    grouped: dict[str, list[float]] = {}
    for limit in standing.limits:
        grouped.setdefault(limit.metric, []).append(bets.worth(standing.pots[limit.name]))
    return {metric: sum(held) / len(held) for metric, held in grouped.items()}


def wealth(standing: Standing) -> float:
    """All metrics together; it reaches 1 / alpha with a chance of at most alpha where every share keeps its limit.

    The stake of a metric without a limit lies idle.
    """
    return together(by_metric(standing))


def together(held: Mapping[str, float]) -> float:
    """The wealth of all metrics from that of each."""
    return sum(weight * held.get(name, 1.0) for name, weight in WEIGHTS.items())


def _slow_limits(metric: str, history: Reading) -> Iterator[Limit]:
    """For each quantile the first bound of the histogram that at least so many requests kept."""
    before = history.times(metric)
    if not before.count:
        return
    reached = {quantile * before.count for quantile in QUANTILES}
    found = {next((bound for bound in before.bounds if before.kept[bound] >= least), "") for least in reached}
    for bound in sorted(found - {""}, key=float):
        share = 1 - before.kept[bound] / before.count
        most = max(TIMES_OVER_HISTORY * share, LEAST_SLOW_LIMIT)
        yield Limit(metric, bound, share, most, LONGER_ON_AVERAGE * before.seconds / before.count)


def _counts(limit: Limit, window: Reading, *, warm: bool) -> Seen:
    if limit.metric == ERRORS:
        return Seen(window.errors, window.finished)
    times = window.times(limit.metric)
    if not warm or limit.bound not in times.kept or not times.count:
        return Seen()
    return Seen(times.count - times.kept[limit.bound], times.count, times.seconds)


def _played(pot: Pot, limit: Limit, counts: Seen) -> Pot:
    if not counts.of:
        return pot
    share = counts.bad / counts.of
    if limit.bound and counts.seconds / counts.of <= limit.mean_seconds:
        share = min(share, limit.most)
    low, middle, high = (min(1 + stake * (share / limit.most - 1), MOST_A_WINDOW[limit.metric]) for stake in STAKES)
    *staked, kept_back = pot
    first, second, third, _ = bets.multiplied((staked[0], staked[1], staked[2], 0.0), low, middle, high)
    return first, second, third, kept_back


def _staked(pot: Pot, windows: int) -> Pot:
    """With the window's part of what is kept back shared out among the bets."""
    first, second, third, kept_back = pot
    planned = KEPT_BACK / (1 + windows / _PATIENCE_WINDOWS) - KEPT_BACK / (1 + (windows + 1) / _PATIENCE_WINDOWS)
    part = min(planned, kept_back)
    return first + part / 3, second + part / 3, third + part / 3, kept_back - part


def _added(one: Seen, more: Seen) -> Seen:
    return Seen(one.bad + more.bad, one.of + more.of, one.seconds + more.seconds)
