import random

import pytest

from devcluster.standins.vllm.metrics import Metrics
from llm_rollout.canary import live, trail
from llm_rollout.canary.live import Limit
from llm_rollout.canary.live_readings import Reading, Times, parse

ALPHA = 0.05
BOUNDS = ("0.1", "0.25", "0.5", "0.75", "1.0", "2.5", "5.0")
WINDOW_REQUESTS = 60


def times(values):
    kept = {bound: sum(value <= float(bound) for value in values) for bound in BOUNDS}
    return Times({**kept, "+Inf": len(values)}, sum(values))


class World:
    """A revision that answers windows of requests; bad in the ways that are asked for."""

    def __init__(self, seed, *, errors=0.005, ttft=0.3, stalls=0.0, bursts=0.0):
        self._rng = random.Random(seed)  # noqa: S311 (simulated traffic)
        self._errors, self._ttft, self._stalls, self._bursts = errors, ttft, stalls, bursts

    def window(self, requests=WINDOW_REQUESTS):
        rate = 0.5 if self._rng.random() < self._bursts else self._errors
        failed = sum(self._rng.random() < rate for _ in range(requests))
        first = [self._rng.lognormvariate(0, 0.5) * self._ttft for _ in range(requests - failed)]
        slow = [value * (10 if self._rng.random() < self._stalls else 1) for value in first]
        return Reading(requests, failed, times(slow))

    def windows(self, count, requests=WINDOW_REQUESTS):
        total = Reading()
        for _ in range(count):
            total = total + self.window(requests)
            yield {"leader": total}


def watched(new, old, windows=60):
    """The metric that convinced, and after how many windows."""
    *_, history = old.windows(60)
    standing = live.begin(live.limits(history["leader"], 0, 0.02), {"leader": Reading()}, 0.0)
    for number, readings in enumerate(new.windows(windows), 1):
        standing = live.after(standing, readings, 15.0 * number, ALPHA)
        if standing.crossed:
            return standing.crossed, number
    return "", windows


@pytest.mark.parametrize(
    ("new", "old", "most"),
    [
        pytest.param({}, {}, 0, id="the same"),
        pytest.param({"bursts": 0.01}, {"bursts": 0.01}, 1, id="half of the requests of a window fail now and then"),
        pytest.param({"ttft": 0.33}, {}, 0, id="a tenth slower is within what hours differ by"),
        pytest.param({"errors": 0.0}, {"errors": 0.0}, 0, id="no errors ever"),
        pytest.param({"ttft": 0.1}, {}, 0, id="faster"),
        pytest.param({"errors": 0.3}, {"errors": 0.3}, 0, id="as sick as before"),
    ],
)
def test_noise_is_no_reason_to_roll_back(new, old, most):
    ends = [watched(World(seed, **new), World(1000 + seed, **old))[0] for seed in range(20)]

    assert sum(map(bool, ends)) <= most


@pytest.mark.parametrize(
    ("new", "metric", "least", "windows"),
    [
        pytest.param({"errors": 0.03}, "errors", 19, 20, id="3 % errors"),
        pytest.param({"errors": 0.02}, "errors", 17, 60, id="2 % errors"),
        pytest.param({"errors": 1.0}, "errors", 20, 3, id="dead"),
        pytest.param({"ttft": 0.6}, "ttft", 20, 24, id="twice the TTFT"),
        pytest.param({"stalls": 0.08}, "ttft", 18, 60, id="8 % stall"),
    ],
)
def test_what_is_worse_is_found_and_named(new, metric, least, windows):
    ends = [watched(World(seed, **new), World(1000 + seed), windows)[0] for seed in range(20)]

    assert ends.count(metric) >= least
    assert set(ends) <= {metric, ""}


def test_two_windows_full_of_errors_are_not_enough():
    standing = live.begin((Limit("errors", "", 0.005, 0.01),), {}, 0.0)
    for windows in (1, 2):
        standing = live.after(standing, {"leader": Reading(1000 * windows, 1000 * windows)}, 15.0 * windows, ALPHA)
    assert not standing.crossed

    assert live.after(standing, {"leader": Reading(3000, 3000)}, 45.0, ALPHA).crossed == "errors"


@pytest.mark.parametrize(("healthy", "windows"), [(40, 6), (400, 8)])
def test_one_that_dies_late_is_found_as_well(healthy, windows):
    standing = live.begin((Limit("errors", "", 0.005, 0.01),), {}, 0.0)
    for number in range(1, healthy + windows + 1):
        failed = max(0, number - healthy) * 100
        standing = live.after(standing, {"leader": Reading(100 * number, failed)}, 15.0 * number, ALPHA)

    assert standing.crossed == "errors"


def test_no_pot_gains_by_being_staked_bit_by_bit():
    pot = live._NEW
    for windows in range(10_000):
        pot = live._staked(pot, windows)

    assert sum(pot) == pytest.approx(1)
    assert min(pot) >= 0


def test_what_has_convinced_stays_convinced():
    standing = live.begin((Limit("errors", "", 0.005, 0.01),), {}, 0.0)
    for windows in range(1, 30):
        bad = Reading(100 * windows, min(100 * windows, 400))
        standing = live.after(standing, {"leader": bad}, 15.0 * windows, ALPHA)

    assert live.wealth(standing) < 1
    assert standing.crossed == "errors"


@pytest.mark.parametrize("stake", [0, 1, 2])
def test_a_bet_is_fair_at_the_limit_however_errors_cluster(stake):
    limit = Limit("errors", "", 0.01, 0.02)
    # One window in ten has a fifth of its requests fail, the others none: 2 % on average.
    played = [live._played((1.0, 1.0, 1.0, 0.0), limit, live.Seen(bad, 100)) for bad in (20, *[0] * 9)]

    assert sum(pot[stake] for pot in played) / 10 <= 1.0 + 1e-9


def test_a_window_without_requests_moves_nothing():
    standing = live.begin(live.limits(Reading(1000, 5), 0, 0.02), {"leader": Reading(7)}, 0.0)

    assert live.after(standing, {"leader": Reading(7)}, 15.0, ALPHA) == standing


def test_times_of_the_warm_up_do_not_count():
    slow = World(1, ttft=3.0)
    *_, history = World(2).windows(60)
    standing = live.begin(live.limits(history["leader"], 0, 0.02), {}, 0.0)
    counted = []
    for number, readings in enumerate(slow.windows(7), 1):
        standing = live.after(standing, readings, 15.0 * number, ALPHA)
        counted.append(max(seen.of for name, seen in standing.seen.items() if name.startswith("ttft")))

    assert counted[:5] == [0] * 5  # 250 requests are passed within the fifth window of 60.
    assert counted[5] > 0


def test_a_hair_over_a_bound_is_not_slow():
    """All times lay just below a bound of the histogram, and now lie just above it."""
    before, now = Reading(1000, 0, times([0.249] * 1000)), Reading(100, 0, times([0.251] * 100))
    far = Reading(100, 0, times([0.49] * 100))
    (_, limit) = live.limits(before, 0, 0.02)

    assert limit.bound == "0.25"
    assert max(live._played((1.0, 1.0, 1.0, 0.0), limit, live._counts(limit, now, warm=True))[:3]) <= 1
    assert min(live._played((1.0, 1.0, 1.0, 0.0), limit, live._counts(limit, far, warm=True))[:3]) > 1


@pytest.mark.parametrize(
    ("history", "canary_requests", "expected"),
    [
        pytest.param(None, 0, ["errors"], id="none"),
        pytest.param(Reading(199, 0, times([0.3] * 199)), 0, ["errors"], id="too short"),
        pytest.param(Reading(2000, 0, times([0.3] * 2000)), 0, ["errors", "ttft"], id="long"),
        pytest.param(Reading(2000, 0, times([0.3] * 2000)), 1100, ["errors"], id="mostly the canary's own requests"),
        pytest.param(Reading(2000, 1200, times([0.3] * 800)), 0, [], id="it failed more often than not"),
    ],
)
def test_only_what_is_known_is_held_against_it(history, canary_requests, expected):
    assert sorted({limit.metric for limit in live.limits(history, canary_requests, 0.02)}) == expected


def test_limits_follow_the_history():
    known = {limit.name: limit for limit in live.limits(Reading(1000, 10, times([0.2] * 880 + [0.9] * 110)), 0, 0.5)}

    assert known["errors"] == ("errors", "", 0.01, 0.02, 0.0)
    assert set(known) == {"errors", "ttft > 1.0 s"}
    assert live.limits(None, 0, 0.07) == (("errors", "", -1.0, 0.07, 0.0),)


def test_leaders_that_come_go_or_start_again_count_for_what_they_did():
    standing = live.begin((), {"a": Reading(100, 1), "b": Reading(500, 5), "gone": Reading(900, 9)}, 0.0)
    now = {"a": Reading(150, 2), "b": Reading(20, 3), "new": Reading(7, 1)}

    assert live.since(standing, now) == Reading(50 + 20 + 7, 1 + 3 + 1)


def test_the_trail_stays_short():
    standing = live.begin((Limit("errors", "", 0.005, 0.01),), {}, 0.0)
    for window in range(1, 1000):
        standing = live.after(standing, {"leader": Reading(window)}, float(window), ALPHA)

    assert len(standing.trail) == len(trail.points(standing.windows)) <= trail.MOST_POINTS + 1


def test_series_of_engines_are_summed_and_what_clients_broke_off_is_left_out():
    text = """
vllm:request_success_total{engine="0",finished_reason="stop",model_name="chat"} 10.0
vllm:request_success_total{engine="1",finished_reason="error",model_name="chat"} 4.0
vllm:request_success_total{engine="1",finished_reason="abort",model_name="chat"} 5.0
vllm:time_to_first_token_seconds_bucket{engine="0",le="0.1",model_name="chat"} 3.0
vllm:time_to_first_token_seconds_bucket{engine="1",le="0.1",model_name="chat"} 2.0
vllm:time_to_first_token_seconds_bucket{engine="0",le="+Inf",model_name="chat"} 10.0
vllm:time_to_first_token_seconds_sum{engine="0",model_name="chat"} 2.5
vllm:inter_token_latency_seconds_bucket{engine="0",le="0.025",model_name="chat"} 99.0
vllm:e2e_request_latency_seconds_bucket{engine="0",le="0.3",model_name="chat"} 1.0
"""

    assert parse(text) == Reading(14, 4, Times({"0.1": 5, "+Inf": 10}, 2.5), Times({"0.025": 99}))


def test_what_the_stand_in_reports_is_read():
    metrics = Metrics("chat")
    for seconds in (0.05, 0.3, 3.0):
        metrics.observe("time_to_first_token_seconds", seconds)
        metrics.observe("inter_token_latency_seconds", seconds / 10)
    for reason in ("stop", "length", "error", "abort"):
        metrics.finish(reason)

    found = parse(metrics.text(0, 0, 0.0))

    assert (found.finished, found.errors) == (3, 1)
    assert (found.ttft.count, found.ttft.kept["0.06"], found.ttft.kept["0.5"]) == (3, 1, 2)
    assert found.ttft.seconds == pytest.approx(3.35)
    assert (found.itl.count, found.itl.kept["0.01"]) == (3, 1)
