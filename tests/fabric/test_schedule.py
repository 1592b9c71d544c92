import threading
import time

from hypothesis import given, settings
from hypothesis import strategies as st

from llm_rollout.fabric.attribution import attribute
from llm_rollout.fabric.rows import Failure, Limits, Measured
from llm_rollout.fabric.schedule import Schedule

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
    rows = Schedule(count, hcas, LIMITS, time.monotonic() + seconds).run(bench, seen.append)
    return rows, seen


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
    assert len(bench.asked) == 6 + 4
    assert {row.status for row in rows if row.pair == ("node-1", "node-2")} == {"ok"}
    assert all("first try: 118" in row.other_try for row in rows if row.pair == ("node-1", "node-2"))
    assert [(blame.kind, blame.name) for blame in attribute(rows)] == [("link", "node-0 <-> node-1")]
    assert [done.retry for done in seen] == [False] * 3 + [True] * 2


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
