"""How many connections: twice as many while that pays."""

from __future__ import annotations

import pytest

from llm_rollout.staging.pace import MEASURE_SECONDS, TRY_AGAIN_SECONDS, Pace

MEGABYTE = 1_000_000


def run(limit: int, rate_of, seconds: float, *, refused=lambda _: 0) -> list[int]:
    """The connections in use at each look; ``rate_of(connections, second)`` is what arrives in a second."""
    pace, fetched, used = Pace.begin(limit, 0.0), 0.0, []
    for look in range(1, round(seconds / MEASURE_SECONDS) + 1):
        now = look * MEASURE_SECONDS
        fetched += rate_of(pace.connections, now) * MEASURE_SECONDS
        used.append(pace.look(round(fetched), refused(now), now))
    return used


def test_it_begins_with_four_or_as_many_as_are_allowed():
    assert (Pace.begin(64, 0.0).connections, Pace.begin(2, 0.0).connections) == (4, 2)


def test_where_each_connection_is_slow_all_that_are_allowed_are_used_within_a_second():
    assert run(64, lambda connections, _: connections * 90 * MEGABYTE, 1.0) == [8, 16, 32, 64]


def test_connections_that_bring_nothing_more_go_again():
    assert run(64, lambda connections, _: min(connections * 90, 1_250) * MEGABYTE, 5.0)[-1] == 16


def test_a_line_that_is_full_with_four_stays_with_four():
    assert run(64, lambda *_: 300 * MEGABYTE, 5.0) == [8, *[4] * 19]


def test_a_line_that_gets_room_is_tried_again():
    room = 30.0
    used = run(
        64,
        lambda connections, now: min(connections * 90, 1_250 if now < room else 9_000) * MEGABYTE,
        room + 2 * TRY_AGAIN_SECONDS,
    )
    assert (used[round(room / MEASURE_SECONDS) - 4], used[-1]) == (16, 64)


def test_a_server_that_turns_requests_away_gets_half_as_many_each_time():
    used = run(64, lambda connections, _: connections * MEGABYTE, 4.0, refused=lambda now: int(now > 2) + int(now > 3))
    assert [used[6], used[8], used[-1]] == [64, 32, 16]


@pytest.mark.parametrize("limit", [1, 3, 64])
def test_it_stays_within_its_limit_and_above_nothing_whatever_happens(limit):
    used = run(limit, lambda _, now: (now * 7919 % 13) * MEGABYTE, 200.0, refused=lambda now: int(now / 7))
    assert 1 <= min(used) <= max(used) <= limit
