"""A start that has stopped is found within its patience, and a slow one is left alone."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from llm_rollout.coldstart import patience, stalls, starting
from llm_rollout.coldstart.stalls import Expected
from llm_rollout.coldstart.words import PHASES

sys.path.insert(0, str(Path(__file__).parent))
from starts import BANNER, BORN, CACHE, COMPILES, JOINS, LOADS, SERVES, UP, event, life, running, shards

RUNS = running()
CAPTURES = "(Worker pid=9) INFO 11-24 10:00:07 [gpu_model_runner.py:3100] Profiling CUDA graph memory: PIECEWISE=51"
STOPPED = {
    "scheduling": (life(placed=None), [], 0),
    "volumes": (life(), [], 1),
    "image_pull": (life(), [event(0, "Pulling", first=4)], 4),
    "process": (life(0, RUNS, [(3, BANNER)]), [], 3),
    "rendezvous": (life(0, RUNS, [(3, BANNER), (5, JOINS)]), [], 5),
    "weights": (life(0, RUNS, [(5, JOINS), (6, LOADS), (9, shards(43))]), [], 9),
    "compile": (life(0, RUNS, [(6, LOADS), (12, COMPILES)]), [], 12),
    "kv_cache": (life(0, RUNS, [(6, LOADS), (12, CACHE)]), [], 12),
    "graph_capture": (life(0, RUNS, [(6, LOADS), (12, CAPTURES)]), [], 12),
    "engine_up": (life(0, RUNS, [(6, LOADS), (12, UP)]), [], 12),
    "serving": (life(0, RUNS, [(6, LOADS), (12, SERVES)]), [], 12),
}


def found(phase, seconds, expected=None):
    stopped, events, _ = STOPPED[phase]
    return stalls.find(starting.ranks([stopped], events), expected or Expected(), BORN + seconds)


@pytest.mark.parametrize("phase", STOPPED)
def test_a_stall_is_found_in_each_phase_when_its_patience_is_over_and_not_before(phase):
    allowed = patience.tolerated(patience.DEFAULT_SECONDS[phase])
    since = STOPPED[phase][2]

    assert found(phase, since + allowed - 1) is None
    stall = found(phase, since + allowed + 1)
    assert stall.class_name == "STALLED"
    assert f"in phase {phase}" in stall.message
    assert f"timing.patience.{phase}" in stall.remedy
    assert stall.at == pytest.approx(BORN + since)


@pytest.mark.parametrize("phase", STOPPED)
def test_the_spec_says_how_long_a_phase_may_be_silent(phase):
    asked = Expected({phase: 5000})

    assert found(phase, 4900, asked) is None
    assert found(phase, 5100, asked) is not None


def test_every_phase_that_can_stall_has_a_patience():
    assert set(patience.DEFAULT_SECONDS) == set(PHASES) - {"stopped"} == set(STOPPED)


def test_the_stall_says_what_was_seen_last_and_when_and_where():
    stall = found("weights", 2000)

    assert "pod chat-aaaaaaaa-0 on node-1" in stall.message
    assert "weights at 43 %" in stall.message
    assert "since 2026-11-24T10:00:09" in stall.message
    assert "43/100" in stall.message


def test_silences_that_were_seen_before_are_borne_again():
    slow = life(0, RUNS, [(6, LOADS), (9, shards(1)), (909, shards(2))])
    ranks = starting.ranks([slow], [])

    assert stalls.find(ranks, Expected(), BORN + 909 + 4 * 900) is None
    assert stalls.find(ranks, Expected(), BORN + 909 + 4 * 900 + 61) is not None
    earlier = Expected(silence=2000)
    assert stalls.find(ranks, earlier, BORN + 909 + 4 * 2000) is None


def test_a_pull_that_took_long_before_may_take_so_long_again():
    assert found("image_pull", 3000) is not None
    assert found("image_pull", 3000, Expected(durations={"image_pull": 900})) is None


def test_until_the_bar_has_shown_the_slowest_disk_is_believed():
    silent = starting.ranks([life(0, RUNS, [(6, LOADS)])], [])
    large = Expected(weights_bytes=400 * 10**9)

    assert stalls.find(silent, large, BORN + 4000) is None
    assert stalls.find(silent, large, BORN + 4100) is not None
    assert found("weights", 1000, large) is not None


def test_a_rank_that_waits_for_another_is_not_stalled():
    waits, pulls = life(0, RUNS, [(3, BANNER), (5, JOINS)]), life(1)
    ranks = starting.ranks([waits, pulls], [event(1, "Pulling", first=4)])

    assert stalls.find(ranks, Expected(), BORN + 1000) is None
    stall = stalls.find(ranks, Expected(), BORN + 1300)
    assert (stall.source, "image_pull" in stall.message) == ("chat-aaaaaaaa-0-1", True)


def test_one_that_moves_speaks_for_those_in_the_same_phase():
    loading = life(0, RUNS, [(6, LOADS), (1500, shards(40))])
    silent = life(1, RUNS, [(6, LOADS), (9, shards(10))])

    assert stalls.find(starting.ranks([loading, silent], []), Expected(), BORN + 1600) is None


def test_a_group_whose_leader_is_ready_is_not_judged():
    ready = life(0, RUNS, [(6, SERVES)], conditions=[{"type": "Ready", "status": "True"}], phase="Running")

    assert stalls.find(starting.ranks([ready, life(1, RUNS, [(6, LOADS)])], []), Expected(), BORN + 9999) is None


@pytest.mark.parametrize("skew", [-60, 60])
def test_clocks_that_differ_by_a_minute_invent_no_stall(skew):
    ranks = starting.ranks([STOPPED["process"][0]], [])

    assert stalls.find(ranks, Expected(), BORN + 3 + patience.DEFAULT_SECONDS["process"] - 1 + skew) is None
