"""How many connections: more while more bring more."""

from __future__ import annotations

import pytest

from llm_rollout.staging.pace import Pace

MEGABYTE = 1_000_000


def run(limit: int, rate_of, seconds: int, *, refused_at: int | None = None) -> list[int]:
    """The connections in use at each second of a transfer that brings ``rate_of(connections)`` bytes a second."""
    pace, fetched, used = Pace.begin(limit, 0.0), 0, []
    for second in range(1, seconds + 1):
        fetched += rate_of(pace.connections, second)
        refused = refused_at is not None and second >= refused_at
        used.append(pace.look(fetched, int(refused), float(second)))
    return used


def test_it_begins_with_sixteen_or_as_many_as_are_allowed():
    assert (Pace.begin(64, 0.0).connections, Pace.begin(4, 0.0).connections) == (16, 4)


def test_where_each_connection_is_slow_it_uses_all_that_are_allowed():
    assert run(64, lambda connections, _: connections * 90 * MEGABYTE, 20)[-1] == 64


def test_where_the_line_is_full_it_stops_adding():
    assert run(64, lambda connections, _: min(connections * 90, 1_250) * MEGABYTE, 30)[-1] == 24


def test_a_line_that_gets_room_is_tried_again_after_a_minute():
    used = run(64, lambda connections, second: min(connections * 90, 1_250 if second < 30 else 9_000) * MEGABYTE, 120)
    assert (used[59], used[-1]) == (24, 64)


def test_a_server_that_turns_requests_away_gets_no_more_connections():
    assert run(64, lambda connections, _: connections * MEGABYTE, 30, refused_at=3)[-1] == 24


@pytest.mark.parametrize("seconds", [1, 5, 200])
def test_it_never_uses_fewer_than_before(seconds):
    used = run(64, lambda _, second: (second % 7) * MEGABYTE, seconds)
    assert used == sorted(used)
