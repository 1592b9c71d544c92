"""What the demo says about users' waits."""

from __future__ import annotations

from devcluster.demo.first_tokens import Felt, FirstToken, Waits, felt


def test_requests_are_told_apart_by_when_they_were_asked():
    tokens = [FirstToken(at, ms) for at, ms in [(9.9, 20.0), (10.0, 30.0), (19.9, 33.0), (20.0, 22.0), (35.0, 31.0)]]

    found = felt(tokens, [(10.0, 20.0), (30.0, 40.0)])

    assert found == Felt(Waits(3, 31.0, 33.0), Waits(2, 20.0, 22.0))
    assert found.p99_ratio == 1.5


def test_the_slowest_of_a_hundred_is_beyond_p99_and_the_next_is_it():
    tokens = [FirstToken(1.0, float(ms)) for ms in range(1, 101)]

    assert felt(tokens, []).otherwise == Waits(100, 50.0, 99.0)


def test_without_requests_on_one_side_there_is_no_ratio():
    found = felt([FirstToken(1.0, 20.0)], [])

    assert found.p99_ratio is None
    assert str(found.compared) == "no request"
    assert str(found.otherwise) == "p99 20 ms, median 20 ms, 1 requests"
