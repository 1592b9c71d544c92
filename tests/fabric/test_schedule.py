import threading
import time
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_rollout.fabric import schedule
from llm_rollout.fabric.attribution import attribute
from llm_rollout.fabric.rows import Failure, Limits, Measured
from llm_rollout.fabric.schedule import Schedule, counted

LIMITS = Limits(min_fraction=0.90, warn_fraction=0.95, max_latency_usec=10.0)


class Simulated:
    """A fabric in memory: capacities of nodes and links, and flakes that are gone at the second try."""

    def __init__(self, slow=(), flaky=()):
        self.slow, self.flaky = {frozenset(pair) for pair in slow}, {frozenset(pair) for pair in flaky}
        self.asked, self.together, self.most = [], 0, 0
        self._busy, self._lock = set(), threading.Lock()

    def name(self, index):
        return f"node-{index}"

    def rate_gbps(self, *_):
        return 400.0

    def bandwidth(self, server, client, hca):
        pair = frozenset((server, client))
        with self._lock:
            assert not pair & {member for busy in self._busy - {pair} for member in busy}, "a member is in two pairs"
            self._busy.add(pair)
            self.most = max(self.most, len(self._busy))
            self.asked.append((server, client, hca))
        first = self.asked.count((server, client, hca)) == 1
        time.sleep(0.001)
        with self._lock:
            self._busy.discard(pair)
        return Measured(118.0 if pair in self.slow or (pair in self.flaky and first) else 390.0)

    def latency(self, *_):
        return Measured(2.0)


def _run(bench, count, hcas=("mlx5_0",), seconds=60.0):
    seen = []
    tries = Schedule(count, hcas, LIMITS, time.monotonic() + seconds).run(bench, seen.append)
    return counted(tries), seen


def test_both_ways_of_every_pair_on_every_device_are_measured_once():
    bench = Simulated()
    rows, seen = _run(bench, 4, ("mlx5_0", "mlx5_1"))
    assert len(rows) == 4 * 3 * 2
    assert len(set(bench.asked)) == len(bench.asked) == len(rows)
    assert [done.done for done in seen] == [1, 2, 3, 4, 5, 6]
    assert {done.total for done in seen} == {6}


def test_pairs_of_a_round_run_together():
    bench = Simulated()
    _run(bench, 4)
    assert bench.most == 2


def test_only_what_was_bad_is_measured_again():
    bench = Simulated(slow=[(0, 1)], flaky=[(1, 2)])
    rows, seen = _run(bench, 3)
    assert len(bench.asked) == 6 + 4 + 2
    assert {row.status for row in rows if row.pair == ("node-1", "node-2")} == {"ok"}
    assert all("first try: 118" in row.other_try for row in rows if row.pair == ("node-1", "node-2"))
    assert [(blame.kind, blame.name) for blame in attribute(rows)] == [("link", "node-0 <-> node-1")]
    assert [done.attempt for done in seen] == [1] * 3 + [2] * 2 + [3] * 2


def test_every_try_is_in_the_row():
    rows, _ = _run(Simulated(slow=[(0, 1)], flaky=[(1, 2)]), 3)
    seen = {row.pair: [one.gbps for one in row.attempts] for row in rows}
    assert seen == {
        ("node-0", "node-1"): [118.0, 118.0, 118.0],
        ("node-0", "node-2"): [],
        ("node-1", "node-2"): [118.0, 390.0],
    }


class OnlyAlone(Simulated):
    """Slow while anything else runs anywhere."""

    def __init__(self, barrier_seconds=0.02):
        super().__init__()
        self.running, self.seconds, self.most_at_last = 0, barrier_seconds, 0

    def bandwidth(self, server, client, hca):
        with self._lock:
            self.running += 1
            company = self.running
        time.sleep(self.seconds)
        with self._lock:
            company = max(company, self.running)
            self.running -= 1
            self.asked.append((server, client, hca, company))
        return Measured(150.0 if company > 1 else 390.0)


def test_last_try_is_alone_on_the_whole_fabric():
    bench = OnlyAlone()
    rows, seen = _run(bench, 4)
    third = bench.asked[-sum(len(row.attempts) == 3 for row in rows) :]
    assert third
    assert {company for *_, company in third} == {1}
    assert {row.status for row in rows} == {"ok"}
    assert {len(done.rows) for done in seen if done.attempt == 3} == {1}


def test_many_cells_are_taken_alone_for_each_pair():
    hcas = tuple(f"mlx5_{number}" for number in range(8))
    bench = Simulated(slow=[(0, 1), (2, 3)])
    _, seen = _run(bench, 4, hcas)
    last = [done for done in seen if done.attempt == 3]
    assert [len(done.rows) for done in last] == [16, 16]
    assert {done.rounds for done in last} == {1}
    assert bench.most == 2


@pytest.mark.parametrize("attempts", [1, 2, 3, 5])
def test_as_many_tries_as_asked_for(attempts):
    bench = Simulated(slow=[(0, 1)])
    tries = Schedule(2, ("mlx5_0",), LIMITS, time.monotonic() + 60, attempts).run(bench, lambda _: None)
    assert {len(seen) for seen in tries.values()} == {attempts}


def test_row_that_only_warns_is_tried_again_too():
    class Lukewarm(Simulated):
        def bandwidth(self, *cell):
            super().bandwidth(*cell)
            return Measured(370.0)

    rows, _ = _run(Lukewarm(), 2)
    assert {(row.status, len(row.attempts)) for row in rows} == {("warn", 3)}


def test_tries_that_would_be_too_late_leave_the_earlier_ones_alone(monkeypatch):
    clock = SimpleNamespace(now=time.monotonic())
    clock.monotonic = lambda: clock.now

    class Slow(Simulated):
        def bandwidth(self, *_):
            clock.now += 100
            return Measured(118.0)

    monkeypatch.setattr(schedule, "time", clock)
    rows, _ = _run(Slow(), 2, seconds=150.0)
    assert {row.status for row in rows} == {"bad"}
    assert {row.attempts for row in rows} == {()}


def test_rounds_after_the_deadline_could_not_run():
    rows, _ = _run(Simulated(), 4, seconds=-1.0)
    assert {row.status for row in rows} == {"could_not_run"}
    assert "deadline" in rows[0].detail


def test_latency_is_not_asked_of_a_path_that_carried_nothing():
    class Broken(Simulated):
        def bandwidth(self, *_):
            return Failure("bad", "completion status 12")

        def latency(self, *_):
            raise AssertionError("asked")

    rows, _ = _run(Broken(), 2)
    assert {row.detail for row in rows} == {"completion status 12"}


@settings(max_examples=25)
@given(st.integers(3, 6), st.data())
def test_a_slow_node_is_found_whatever_flakes(count, data):
    bad = data.draw(st.integers(0, count - 1))
    pairs = [(one, other) for one in range(count) for other in range(one)]
    flaky = data.draw(st.lists(st.sampled_from(pairs), unique=True, max_size=3))
    rows, _ = _run(Simulated([pair for pair in pairs if bad in pair], flaky), count)
    assert [(blame.kind, blame.name) for blame in attribute(rows)] == [("node", f"node-{bad}")]
