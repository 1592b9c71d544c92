import pytest

from llm_rollout.canary.back_pressure import Limits, Load, Pace, Seats, load, percentile, room

METRICS = """# HELP vllm:num_requests_waiting x
vllm:num_requests_running{engine="0",model_name="a"} 6.0
vllm:num_requests_running{engine="1",model_name="a"} 2.0
vllm:num_requests_waiting{engine="0",model_name="a"} 1.0
vllm:kv_cache_usage_perc{engine="0",model_name="a"} 0.25
vllm:kv_cache_usage_perc{engine="1",model_name="a"} 0.5
go_threads 3
"""
LIMITS = Limits(most=8)


def test_engines_add_up_and_the_fullest_cache_counts():
    assert load(METRICS) == Load(waiting=1, running=8, cache_usage=0.5)


def test_a_server_without_gauges_is_not_an_empty_one():
    assert load("go_threads 3\n") is None


@pytest.mark.parametrize(
    ("seen", "ours", "slots"),
    [
        pytest.param(None, 0, 1, id="not known"),
        pytest.param(Load(), 0, 8, id="idle"),
        pytest.param(Load(running=4, cache_usage=0.2), 4, 8, id="only ours"),
        pytest.param(Load(waiting=1, running=4, cache_usage=0.2), 0, 0, id="a queue"),
        pytest.param(Load(running=4, cache_usage=0.95), 0, 0, id="a full cache"),
        pytest.param(Load(running=10, cache_usage=0.5), 0, 5, id="half of the free half"),
        pytest.param(Load(running=20, cache_usage=0.1), 0, 8, id="no more than asked for"),
        pytest.param(Load(running=1, cache_usage=0.8), 0, 1, id="always one"),
        pytest.param(Load(running=6), 0, 3, id="half of what it bears"),
        pytest.param(Load(running=9), 3, 3, id="half of what it bears of others"),
    ],
)
def test_the_room_is_a_share_of_what_is_free(seen, ours, slots):
    assert room(seen, ours, LIMITS, Seats()) == slots


def test_a_queue_may_be_allowed():
    assert room(Load(waiting=2), 0, Limits(most=8, max_waiting=2), Seats()) == 8


@pytest.mark.parametrize(
    ("others", "ours", "slots"),
    [
        pytest.param(0, 0, 5, id="nobody else"),
        pytest.param(0, 5, 5, id="nobody but us"),
        pytest.param(4, 2, 3, id="half of the rest"),
        pytest.param(9, 0, 0, id="the last seat is for users"),
        pytest.param(12, 1, 0, id="more than was known"),
    ],
)
def test_a_queue_shows_how_many_seats_there_are(others, ours, slots):
    seats = Seats().after(Load(waiting=3, running=10), LIMITS)

    assert room(Load(running=others + ours), ours, LIMITS, seats) == slots


def test_seats_are_forgotten_while_no_queue_comes_up_and_known_anew_with_the_next():
    seats = Seats().after(Load(waiting=1, running=4), LIMITS)
    for _ in range(700):
        seats = seats.after(Load(running=1), LIMITS)

    assert 15 < seats.free(0) < 17
    assert seats.after(Load(running=40), LIMITS).free(0) == 40
    assert seats.after(Load(waiting=1, running=4), LIMITS).free(0) == 4


def test_a_single_seat_is_asked_for_while_nobody_else_is_there():
    seats = Seats().after(Load(waiting=1, running=1), LIMITS)

    assert [room(Load(running=running), 0, LIMITS, seats) for running in (0, 1)] == [1, 0]


def test_without_gauges_nothing_is_learned_of_seats():
    assert Seats().after(None, LIMITS).after(Load(running=3), LIMITS).after(Load(waiting=1), LIMITS) == Seats()


def rounds(pace, *factors):
    for factor in factors:
        pace = pace.after([factor * (100 + each) for each in range(50)], most=8)
    return pace


def test_the_pace_begins_with_one_and_grows_while_stable_is_as_fast():
    assert [rounds(Pace(), *[1.0] * count).slots for count in range(9)] == [1, 2, 3, 4, 5, 6, 7, 8, 8]


def test_a_slower_stable_halves_the_pace_and_then_it_grows_again():
    assert [rounds(Pace(), 1, 1, 1, 1.2, *[1.0] * count).slots for count in range(3)] == [2, 3, 4]


def test_every_time_it_is_felt_it_takes_twice_as_many_quiet_rounds_to_grow():
    felt_twice = rounds(Pace(), 1, 1, 1, 1.2, 1.2)

    assert [rounds(felt_twice, *[1.0] * count).slots for count in range(5)] == [1, 1, 2, 2, 3]


def test_near_the_limit_the_pace_stays_as_it_is():
    assert rounds(Pace(), 1, 1, 1.04, 1.04).slots == 3


def test_rounds_with_the_same_number_in_flight_are_looked_at_together():
    steady = rounds(Pace(), *[1.0] * 12)

    assert [rounds(steady, *[1.06] * count).slots for count in range(4)] == [8, 8, 8, 4]


def test_a_queue_halves_the_pace_whatever_the_times_are():
    queued = rounds(Pace(), 1, 1, 1).back()

    assert (queued.slots, queued.back().back().slots) == (2, 1)


def test_what_is_usual_is_learned_from_single_requests_alone():
    busy = rounds(Pace(), 1, 1.2)

    assert (busy.slots, percentile(busy.usual)) == (1, pytest.approx(144))
    assert percentile(rounds(busy, *[1.5] * 10).usual) > 180


def test_what_was_learned_while_stable_was_slow_gives_way_to_better_times():
    assert [rounds(Pace(), 2.0, 1.0, *[1.06] * count).slots for count in range(2)] == [3, 1]


def test_a_few_times_say_nothing():
    assert Pace().after([1.0] * 19, most=8) == Pace()


@pytest.mark.parametrize(("share", "expected"), [(0.5, 5), (0.9, 9), (0.99, 10), (0.01, 1)])
def test_a_percentile_is_one_of_the_times(share, expected):
    assert percentile([10, 9, 8, 7, 6, 5, 4, 3, 2, 1], share) == expected
