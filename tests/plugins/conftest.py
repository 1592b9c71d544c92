from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from llm_rollout.testing import Simulation
from rollout_airflow import connection

ROOT = Path(__file__).resolve().parents[2]
COMMITS = {"v1": "1" * 40, "v2": "2" * 40}
SPEC: dict[str, Any] = {
    "name": "chat",
    "model": {"repo": "org/chat", "revision": "v1"},
    "server": {"nodes_per_group": 3, "tensor_parallel": 8, "pipeline_parallel": 3},
    "service": {"name": "chat-api"},
    "timing": {"cold_start_seconds": 60, "bake_seconds": 5, "drain_seconds": 5},
}


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Simulation:
    """A cluster in memory behind Airflow's connection."""
    simulation = Simulation("chat", COMMITS)
    simulation.add_nodes(6)
    simulation.add_claim("default", "model-store")

    async def ports() -> Any:
        return simulation.ports

    monkeypatch.setattr(connection, "ports", lambda: simulation.ports)
    monkeypatch.setattr(connection, "trigger_ports", ports)
    return simulation


def context(run_id: str = "run-1", try_number: int = 1, **params: object) -> dict[str, Any]:
    """What Airflow hands to a task, as far as the operators read it."""
    return {
        "params": params,
        "dag_run": SimpleNamespace(run_id=run_id),
        "ti": SimpleNamespace(try_number=try_number, dag_id="roll_out__chat"),
    }
