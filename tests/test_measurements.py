"""Which PASS may be used again, and how measurements are kept."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_rollout import kinds, measurements, names
from llm_rollout.errors import Conflict, Transient
from llm_rollout.measurements import KEPT, Measurement, valid_pass
from llm_rollout.testing import Simulation

HOUR = 3600.0
NOW = 100 * HOUR
NODES = {"a": "boot-a", "b": "boot-b", "c": "boot-c"}
VERDICTS = ("PASS", "DEGRADED", "FAIL", "INCONCLUSIVE")


def one(hours_ago=1.0, verdict="PASS", nodes=NODES, settings="s", **fields):
    return Measurement(**{
        "at": NOW - hours_ago * HOUR, "attempt": "run/1", "job": f"job-{hours_ago}", "nodes": nodes,
        "settings": settings, "verdict": verdict, "transport": "rdma", "sentence": verdict, **fields,
    })  # fmt: skip


def found(*known, nodes=NODES, hours=24):
    return valid_pass(sorted(known, key=lambda entry: entry.at), nodes, "s", hours, NOW)


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        pytest.param([one()], True, id="the same"),
        pytest.param([one(nodes=NODES | {"d": "boot-d"})], True, id="more nodes"),
        pytest.param([one(), one(0.5, nodes={"x": "1", "y": "2"}, verdict="FAIL")], True, id="others failed since"),
        pytest.param([one(), one(0.5, nodes={"a": "boot-a"})], True, id="one node was measured again, and passed"),
        pytest.param([one(), one(0.5, settings="t", verdict="FAIL")], True, id="other settings failed since"),
        pytest.param([], False, id="nothing"),
        pytest.param([one(25)], False, id="too old"),
        pytest.param([one(-1)], False, id="from the future"),
        pytest.param([one(settings="t")], False, id="other settings"),
        pytest.param([one(nodes={"a": "boot-a", "b": "boot-b"})], False, id="not all nodes"),
        pytest.param([one(nodes=NODES | {"b": "boot-b2"})], False, id="a node started again"),
        pytest.param([one(), one(0.5, nodes={"b": "boot-b"}, verdict="FAIL")], False, id="one of them failed since"),
        pytest.param([one(), one(0.5, verdict="INCONCLUSIVE")], False, id="not all could be measured since"),
        pytest.param([one(verdict="DEGRADED")], False, id="not a pass"),
    ],
)
def test_a_pass_counts_for_the_same_nodes_in_the_same_state(known, expected):
    assert (found(*known) is not None) == expected


def test_no_hours_are_never():
    assert found(one(0.0001), hours=0) is None


def test_a_node_that_does_not_tell_its_boot_is_never_the_same():
    assert found(one(nodes=dict.fromkeys(NODES, "")), nodes=dict.fromkeys(NODES, "")) is None


@given(st.lists(st.builds(one, st.floats(0, 48), st.sampled_from(VERDICTS)), max_size=6))
def test_whatever_is_found_is_a_young_pass_and_the_newest(known):
    newest = max(known, key=lambda entry: entry.at, default=None)
    answer = found(*known)

    assert answer is None or (answer.verdict == "PASS" and NOW - answer.at <= 24 * HOUR and answer.at == newest.at)


@pytest.fixture
def world():
    return Simulation("chat", {})


def note(world, entry):
    measurements.note(world.cluster, "default", "chat", entry)


def known(world):
    return measurements.load(world.cluster, "default", "chat")


def test_a_report_is_noted_once_and_the_oldest_go(world):
    for hours in range(KEPT + 5, 0, -1):
        note(world, one(hours))
    writes = len(world.cluster.writes)
    note(world, one(1))

    assert [entry.at for entry in known(world)] == [NOW - hours * HOUR for hours in range(KEPT, 0, -1)]
    assert len(world.cluster.writes) == writes


def test_a_late_note_of_an_old_report_is_kept_too(world):
    for hours in range(KEPT, 0, -1):
        note(world, one(hours))

    note(world, one(400))

    assert known(world)[0].at == NOW - 400 * HOUR


@pytest.mark.parametrize("text", ["", "{", '[{"verdict": "GOOD"}]'])
def test_what_cannot_be_read_counts_for_nothing_and_is_written_over(world, text):
    metadata = {"name": names.measurements_name("chat"), "namespace": "default"}
    world.cluster.create(
        {"apiVersion": "v1", "kind": kinds.CONFIG_MAP.kind, "metadata": metadata, "data": {measurements.KEY: text}}
    )
    assert known(world) == ()

    note(world, one())

    assert known(world) == (one(),)


def test_who_writes_at_the_same_time_loses_nothing(world):
    def interfere(_what):
        world.cluster.before_write = lambda _what: None
        note(world, one(2))
        raise Conflict("somebody was faster")

    world.cluster.before_write = interfere
    note(world, one(1))

    assert len(known(world)) == 2


def test_endless_conflicts_are_transient(world):
    def interfere(_what):
        raise Conflict("somebody was faster")

    world.cluster.before_write = interfere
    with pytest.raises(Transient, match=r"llm-rollout-chat\.fabric"):
        note(world, one())


def test_no_model_has_the_name_of_the_config_map():
    assert "." in names.measurements_name("chat")
