"""Where each rank is, and which one the others wait for."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from llm_rollout.coldstart import lives, remaining, starting
from llm_rollout.coldstart.stalls import Expected

sys.path.insert(0, str(Path(__file__).parent))
from starts import BANNER, BORN, CACHE, JOINS, LOADS, SERVES, UP, event, life, running, shards, waiting

RUNS = running()


@pytest.mark.parametrize(
    ("found", "events", "phase", "moved"),
    [
        pytest.param(life(placed=None), [], "scheduling", 0, id="no place yet"),
        pytest.param(life(), [], "volumes", 1, id="placed, nothing pulled yet"),
        pytest.param(life(), [event(0, "SuccessfulAttachVolume", first=9)], "volumes", 9, id="a volume is attached"),
        pytest.param(life(), [event(0, "Pulling", first=4)], "image_pull", 4, id="pulling"),
        pytest.param(life(), [event(0, "Pulling", first=4, last=40)], "image_pull", 4, id="one more try moves nothing"),
        pytest.param(life(state=waiting("ErrImagePull")), [], "image_pull", 1, id="a pull that fails"),
        pytest.param(life(), [event(0, "Pulling"), event(0, "Pulled", first=8)], "process", 8, id="pulled"),
        pytest.param(life(state=RUNS), [], "process", 2, id="runs without a word"),
        pytest.param(life(state=RUNS, log=[(3, BANNER)]), [], "process", 3, id="the banner"),
        pytest.param(life(state=RUNS, log=[(3, BANNER), (5, JOINS)]), [], "rendezvous", 5, id="joins"),
        pytest.param(life(state=RUNS, log=[(6, LOADS), (8, shards(30))]), [], "weights", 8, id="loads"),
        pytest.param(life(state=RUNS, log=[(6, LOADS), (30, CACHE)]), [], "kv_cache", 30, id="measures its cache"),
        pytest.param(life(state=RUNS, log=[(9, SERVES)]), [], "serving", 9, id="serves"),
    ],
)  # fmt: skip
def test_the_phase_and_its_last_sign_of_progress(found, events, phase, moved):
    (rank,) = starting.ranks([found], events)

    assert (rank.phase, rank.moved) == (phase, pytest.approx(BORN + moved))


def test_events_about_an_earlier_pod_of_the_name_count_for_nothing():
    other = event(0, "Pulling")
    other["involvedObject"]["uid"] = "uid-of-before"

    assert starting.ranks([life()], [other])[0].phase == "volumes"


@pytest.mark.parametrize(
    ("leader", "worker", "behind"),
    [
        pytest.param([(5, JOINS)], None, 1, id="a leader waits for a worker that still pulls"),
        pytest.param([(6, LOADS), (9, shards(90))], [(6, LOADS), (9, shards(20))], 1, id="less loaded"),
        pytest.param([(5, JOINS)], [(5, JOINS), (6, LOADS)], 0, id="the leader has not joined"),
        pytest.param([(6, LOADS), (30, CACHE)], [(6, LOADS), (20, shards(100))], 0, id="it has loaded, and waits"),
    ],
)  # fmt: skip
def test_the_rank_that_the_others_wait_for(leader, worker, behind):
    pulls = worker is None
    found = [
        life(0, RUNS, leader),
        life(1, None if pulls else RUNS, worker or ()),
    ]

    ranks = starting.ranks(found, [event(1, "Pulling")] if pulls else [])

    assert behind == (0 if starting.behind(ranks)[0].leads else 1) or (behind == 0 and len(starting.behind(ranks)) == 2)


def test_a_pod_that_goes_is_not_waited_for():
    going = life(1, RUNS, metadata={"deletionTimestamp": "2026-11-24T10:01:00Z"})

    assert [rank.pod for rank in starting.ranks([life(0, RUNS), going], [])] == ["chat-aaaaaaaa-0"]


def test_when_each_phase_began_is_read_from_the_times_of_the_lines():
    found = life(
        0, RUNS, [(3, BANNER), (5, JOINS), (6, LOADS), (8, shards(30)), (80, shards(100)), (90, CACHE), (95, UP)]
    )

    began = {phase: moment - BORN for phase, moment in starting.reached(found.text).items()}

    assert began == pytest.approx({"process": 3, "rendezvous": 5, "weights": 6, "kv_cache": 90, "engine_up": 95})


def test_what_is_left_follows_from_the_rate_and_from_an_earlier_start():
    found = life(0, RUNS, [(10, LOADS), (15, shards(10)), (30, shards(20))])
    expected = Expected(weights_bytes=1000, durations={"weights": 500.0, "kv_cache": 7.0, "graph_capture": 3.0})

    told = remaining.estimate(starting.behind(starting.ranks([found], [])), expected)

    assert (told.percent, told.bytes_per_second) == (20, pytest.approx(10))
    assert told.seconds_left == pytest.approx(80 + 10)


def test_a_phase_without_a_rate_takes_what_it_took_before():
    found = life(0, RUNS, [(3, BANNER), (12, BANNER)])
    expected = Expected(durations={"process": 30.0, "weights": 100.0})

    told = remaining.estimate(starting.behind(starting.ranks([found], [])), expected)

    assert told.seconds_left == pytest.approx(20 + 100, abs=10)


def test_a_clock_that_is_behind_is_set_right_by_cause_and_effect():
    slow = life(0, running(since=-57), [(-50, BANNER)], placed=1, acknowledged=-59)

    assert lives.skew(slow.pod) == 60
    assert starting.ranks([slow], [])[0].moved == pytest.approx(BORN + 10)
