"""Which end came first, of which generation; what the picture of a start shows."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from llm_rollout.coldstart import deaths, diagnosis, timeline
from llm_rollout.coldstart.deaths import Death
from llm_rollout.coldstart.obstacles import Around

sys.path.insert(0, str(Path(__file__).parent))
from starts import BANNER, BORN, CACHE, JOINS, LOADS, event, life, restarted, running, shards
from starts import ended as ended_at

OOM = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB."


def death(pod, ended, class_name="NCCL", born=0.0, role="worker", **changes):
    return Death(
        pod=pod, uid=f"{pod}/{born}", restart=0, group="0", role=role, node="node-1", born=BORN + born,
        ended=BORN + ended, class_name=class_name, message=class_name, at=BORN + ended, **changes,
    )  # fmt: skip


def test_only_the_generation_that_died_last_is_asked():
    first = [death("leader", 10, "UNKNOWN", 0, "leader"), death("worker", 9, "GPU_OOM", 1)]
    second = [death("leader", 40, "PEER_LOST", 20, "leader"), death("worker", 39, "NCCL", 21)]

    found = diagnosis.diagnose([*first, *second], [], Around(), BORN + 100)

    assert (found.cause.class_name, found.settled) == ("NCCL", True)


def test_the_same_end_noted_twice_is_one():
    assert len(deaths.latest_generation([death("worker", 9)] * 2)) == 1


@pytest.mark.parametrize(
    ("found", "exit_code", "ends"),
    [
        pytest.param(life(0, ended_at(1, 15), [(6, LOADS), (14, OOM)]), 1, True, id="ended by itself"),
        pytest.param(life(0, running(), [(6, LOADS)]), None, False, id="runs"),
        pytest.param(life(0, running(), [(6, LOADS)], gone=True), None, False, id="gone without a word"),
        pytest.param(
            life(0, running(), [(6, LOADS), (14, OOM)], gone=True), None, True, id="gone after its last words"
        ),
    ],
)
def test_what_counts_as_an_end(found, exit_code, ends):
    said = deaths.find([found], [])

    assert bool(said) is ends
    if ends:
        assert (said[0].class_name, said[0].exit_code) == ("GPU_OOM", exit_code)
        assert said[0].at == pytest.approx(BORN + 14)


def test_the_end_before_a_restart_is_read_from_the_last_state():
    before = life(0, restarted(1, 15), [(6, LOADS), (14, OOM)], restarts=1)
    earlier = type(before)(before.pod, 0, before.text)

    assert [one.restart for one in deaths.find([earlier], [])] == [0]


def test_an_end_without_a_word_says_its_exit_code_and_last_line():
    (said,) = deaths.find([life(0, ended_at(137, 15), [(6, LOADS)])], [])

    assert said.class_name == "UNKNOWN"
    assert "exit code 137 (killed)" in said.message
    assert "Starting to load model" in said.message


def test_clocks_of_nodes_are_laid_on_one_axis():
    """The worker's node is a minute behind; by its own stamps it would have died before the leader's root cause."""
    leader = life(0, ended_at(1, 15), [(14, OOM)])
    slow = life(1, ended_at(1, -40), [(-41, "RuntimeError: NCCL error: unhandled system error")], acknowledged=-59)

    found = diagnosis.diagnose([], [leader, slow], Around(), BORN + 60)

    assert found.cause.class_name == "GPU_OOM"


def test_leader_and_worker_with_other_flags_are_told_apart_from_the_error_they_die_of():
    def args(length):
        return f"INFO 11-24 10:00:03 [utils.py:233] non-default args: {{'model': '/m', 'max_model_len': {length}}}"

    lost = "RuntimeError: [..] Connection closed by peer [10.64.0.3]:29501"
    found = [
        life(index, ended_at(1, 15), [(3, args(length)), (5, JOINS), (14, lost)])
        for index, length in ((0, 4096), (1, 8192))
    ]

    cause = diagnosis.diagnose([], found, Around(), BORN + 60).cause

    assert cause.class_name == "FLAGS_DISAGREE"
    assert "4096" in cause.message


def test_a_pod_that_was_evicted_and_deleted_at_once_has_ended_by_it():
    told = event(1, "Evicted", "The node was low on resource: memory.", first=12)

    said = deaths.find([life(1, running(), [(6, LOADS)], gone=True)], [told])

    assert [(one.class_name, one.message) for one in said] == [("EVICTED", "The node was low on resource: memory.")]


def test_what_a_rank_that_still_runs_has_said_comes_before_the_end_of_its_peer():
    lost = "RuntimeError: [..] Connection closed by peer [10.64.0.3]:29501"
    found = [life(0, running(), [(5, JOINS), (14, OOM)]), life(1, ended_at(1, 15), [(5, JOINS), (14.5, lost)])]

    cause = diagnosis.diagnose([], found, Around(), BORN + 16).cause

    assert (cause.class_name, cause.source) == ("GPU_OOM", found[0].name)


@pytest.mark.parametrize(
    ("leader", "after", "settled"),
    [
        pytest.param(running(), 5, False, id="the peer still counts as running"),
        pytest.param(running(), 9, True, id="it says nothing for too long"),
        pytest.param(ended_at(1, 15.5), 5, True, id="both have ended"),
    ],
)
def test_a_rank_that_lost_its_peer_is_believed_once_the_peer_had_its_say(leader, after, settled):
    lost = "RuntimeError: [..] Connection closed by peer [10.64.0.3]:29501"
    found = [life(0, leader, [(5, JOINS)]), life(1, ended_at(1, 15), [(5, JOINS), (14.5, lost)])]

    assert diagnosis.diagnose([], found, Around(), BORN + 15 + after).settled is settled


def test_the_picture_shows_every_rank_its_phases_and_the_first_cause():
    found = [
        life(0, ended_at(1, 95), [(3, BANNER), (5, JOINS), (6, LOADS), (8, shards(30)), (90, CACHE), (94, OOM)]),
        life(1, running(), [(4, BANNER), (5, JOINS)]),
    ]
    events = [event(0, "Pulling", first=1.5)]
    spans = timeline.spans(found, events)

    drawn = ET.fromstring(timeline.svg(spans, deaths.find(found, events)))  # noqa: S314 (our own text)

    texts = [text.text for text in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert {"chat-aaaaaaaa-0", "chat-aaaaaaaa-0-1", "weights", "image_pull"} <= set(texts)
    assert any(text.startswith("first: chat-aaaaaaaa-0: GPU_OOM") for text in texts)
    took = timeline.durations(found, events)
    assert took["weights"] == pytest.approx(84)
    assert took["image_pull"] == pytest.approx(0.5)


def test_phases_that_began_in_the_same_second_come_in_their_own_order():
    found = life(0, running(0), [(0, BANNER), (40, JOINS)], placed=0.0)

    took = timeline.durations([found], [])

    assert (took["scheduling"], took["volumes"], took["process"]) == (0.0, 0.0, pytest.approx(40))


def test_a_picture_of_one_moment_is_drawn_too():
    spans = timeline.spans([life(placed=None)], [])

    assert "</svg>" in timeline.svg(spans, [])
