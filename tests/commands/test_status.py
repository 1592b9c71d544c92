"""What a person reads of a model: its record, and what was measured of its fabric."""

from __future__ import annotations

import io
from argparse import Namespace

import pytest
from rich.console import Console

from llm_rollout import measurements, record
from llm_rollout.commands import status
from llm_rollout.measurements import Measurement
from llm_rollout.testing import Simulation


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
