"""What a person reads of a model: its record, and what was measured of its fabric."""

from __future__ import annotations

import io
from argparse import Namespace

import pytest
from rich.console import Console

from llm_rollout import measurements, record
from llm_rollout.commands import status, status_live
from llm_rollout.measurements import Measurement
from llm_rollout.rollout import Rollout
from llm_rollout.spec import RolloutSpec
from llm_rollout.steps import PIPELINE
from llm_rollout.testing import Simulation, Start


@pytest.fixture
def world():
    """One rollout, and three nights."""
    simulation = Simulation("chat", {})
    record.update(simulation.cluster, "default", "chat", lambda found: found.opened("run-1", "v1", simulation.now()))
    for night, verdict in enumerate(("PASS", "FAIL", "DEGRADED")):
        one = Measurement(
            at=simulation.now() + night, attempt=f"night-{night}/1", job=f"job-{night}", nodes={"b": "2", "a": "1"},
            settings="s", verdict=verdict, transport="rdma", sentence=f"{verdict}: so it is",
        )  # fmt: skip
        measurements.note(simulation.cluster, "default", "chat", one)
    return simulation


def shown(world, **options):
    console = Console(file=io.StringIO(), width=200)
    asked = {"namespace": "default", "name": "chat", "last": 3, "json": False, "watch": False}
    code = status.show(world.cluster, Namespace(**{**asked, **options}), console)
    return code, console.file.getvalue()


def test_the_last_measurements_stand_below_the_rollouts_newest_first(world):
    code, text = shown(world, last=2)

    lines = [line for line in text.splitlines() if line.startswith("fabric")]
    assert code == 0
    assert [line.partition("  ")[2] for line in lines] == [
        "night-2  a, b: DEGRADED: so it is",
        "night-1  a, b: FAIL: so it is",
    ]


def test_a_model_that_was_never_rolled_out_is_unknown(world):
    assert shown(world, name="other")[0] == 3


LOADS = "INFO 11-24 10:00:05 [gpu_model_runner.py:3551] Starting to load model /models/x...\n"
HALF = "Loading safetensors checkpoint shards:  43% Completed | 43/100 [00:10<00:12, 4.00it/s]\n"


@pytest.fixture
def in_mid_start():
    simulation = Simulation("chat", {"v1": "1" * 40})
    simulation.add_nodes(3)
    simulation.add_claim("default", "model-store")
    server = {"nodes_per_group": 3, "tensor_parallel": 8, "pipeline_parallel": 3}
    spec = RolloutSpec.model_validate(
        {"name": "chat", "model": {"repo": "org/chat"}, "server": server, "service": {"name": "chat-api"}}
    )
    run = Rollout(spec, "run-1", "run-1/1", "v1")
    for step in PIPELINE[: PIPELINE.index("await_cold_start")]:
        simulation.drive(step, run)
    revision = record.load(simulation.cluster, "default", "chat").run("run-1").plan.revision_id
    simulation.controllers.starts[revision] = Start(seconds=30, log=LOADS + HALF)
    simulation.tick()
    return simulation


def live(world):
    console = Console(file=io.StringIO(), width=200)
    console.print(status_live.screen(world.ports, Namespace(namespace="default", name="chat", last=3)))
    return console.file.getvalue()


def test_the_phases_of_a_start_are_shown_live(in_mid_start):
    text = live(in_mid_start)

    leader = next(line for line in text.splitlines() if line.count("-0 ") and "node-" in line)
    assert "weights" in leader
    assert "43" in leader
    assert "current: none" in text


def test_phases_are_shown_only_while_it_starts(in_mid_start):
    in_mid_start.tick(40)

    assert "the candidate starts" not in live(in_mid_start)


def test_looking_changes_nothing(in_mid_start):
    before = list(in_mid_start.cluster.writes)

    live(in_mid_start)

    assert (in_mid_start.cluster.writes, in_mid_start.evidence.kept) == (before, {})
