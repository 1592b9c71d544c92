import math
import random
from collections import Counter

import pytest

from llm_rollout.canary import both_sides
from llm_rollout.canary.judge import Judge
from llm_rollout.canary.live_readings import Reading, Times

BOUNDS = (0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0)
STEPS = (1, 5, 25, 50)
PER_WINDOW = 600


def luck(seed):
    return random.Random(seed)  # noqa: S311 - repeatable, not secret


def histogram(seconds):
    kept = {str(bound): sum(one <= bound for one in seconds) for bound in BOUNDS}
    return Times({**kept, "+Inf": len(seconds)}, sum(seconds))


def reading(source, requests, errors=0.005, ttft=0.3, itl=0.07):
    failed = sum(source.random() < errors for _ in range(requests))
    times = [ttft * math.exp(source.gauss(0, 0.5)) for _ in range(requests - failed)]
    between = [itl * math.exp(source.gauss(0, 0.3)) for _ in range(4 * (requests - failed))]
    return Reading(requests, failed, histogram(times), histogram(between))


def shifted(seed, **candidate):
    """How a shift in four steps of eight windows ends: rolled back, or not."""
    source, judge = luck(seed), Judge(both_sides.rules(0.05))
    standing = judge.begin()
    for window in range(8 * len(STEPS)):
        share = STEPS[window // 8] / 100
        shared = {"ttft": 0.3 * math.exp(source.gauss(0, 0.2))}
        stable = reading(source, round(PER_WINDOW * (1 - share)), **shared)
        other = reading(
            source,
            round(PER_WINDOW * share),
            **{**shared, **candidate, "ttft": shared["ttft"] * candidate.get("ttft", 1)},
        )
        standing = judge.after(standing, both_sides.pairs(stable, other, f"{seed}/{window}"))
    return standing.decision.outcome


def test_as_many_pairs_as_the_smaller_side_has_requests():
    source = luck(1)
    pairs = both_sides.pairs(reading(source, 500), reading(source, 30), "a")

    assert len(pairs) == 30
    assert len(both_sides.pairs(Reading(), reading(source, 30), "a")) == 0
    assert len(both_sides.pairs(reading(source, 9000), reading(source, 9000), "a")) == both_sides.MOST_PAIRS


def test_a_window_is_drawn_alike_each_time_it_is_looked_at():
    source = luck(2)
    sides = reading(source, 300), reading(source, 100)

    assert both_sides.pairs(*sides, "a") == both_sides.pairs(*sides, "a") != both_sides.pairs(*sides, "b")


def test_drawn_times_keep_the_bounds_of_their_histogram():
    times = Times({"0.1": 10, "0.25": 10, "0.5": 30, "+Inf": 40}, 12.0)
    side = Reading(40, 0, times, Times())
    drawn = [pair.stable.ttft_ms for pair in both_sides.pairs(side, side, "a")]

    assert Counter(one > 100 for one in drawn)[False] == 10
    assert sum(250 < one <= 500 for one in drawn) == 20
    assert sum(500 < one <= 1000 for one in drawn) == 10
    assert min(drawn) >= 50


def test_requests_that_failed_have_no_times_and_times_that_are_unknown_are_left_out():
    side = Reading(10, 4, Times({"0.1": 3, "+Inf": 3}, 0.2), Times())
    drawn = [pair.candidate for pair in both_sides.pairs(side, side, "a")]

    assert sum(not one.ok for one in drawn) == 4
    assert all(one.ttft_ms is None for one in drawn if not one.ok)
    assert sum(one.ttft_ms is not None for one in drawn) <= 3
    assert all(one.total_ms is None for one in drawn)


def test_where_sides_carry_different_loads_only_failures_are_compared():
    source = luck(3)
    found = both_sides.pairs(reading(source, 200), reading(source, 200, errors=0.2), "a")
    bare = both_sides.without_times(found)

    assert [(one.stable.ok, one.candidate.ok) for one in bare] == [(one.stable.ok, one.candidate.ok) for one in found]
    assert {(answer.ttft_ms, answer.total_ms) for one in bare for answer in one} == {(None, None)}


def test_the_judge_of_live_windows_never_promotes_and_seldom_rolls_back_what_is_as_good():
    ends = Counter(shifted(seed) for seed in range(8))

    assert ends["continue"] + ends["rollback"] == 8
    assert ends["rollback"] <= 1


@pytest.mark.parametrize(
    "candidate", [{"errors": 0.05}, {"ttft": 2.0}, {"itl": 0.14}], ids=["errors", "first tokens", "between tokens"]
)
def test_a_candidate_that_is_clearly_worse_is_found(candidate):
    assert [shifted(seed, **candidate) for seed in range(3)] == ["rollback"] * 3
