"""Everything that a rollout runs on dies once; it still ends right, and nothing is there twice.

The tests build on each other in their order: the second and third look at what the first left behind.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from devcluster.airflow import AirflowProcesses, Client
from devcluster.demo.stack import DAG, MODEL, NAMESPACE, SERVICE, Stack
from devcluster.layout import write_json
from llm_rollout import kinds, names
from llm_rollout.adapters import cluster_of
from llm_rollout.ports import Cluster
from llm_rollout.steps import PIPELINE

from .inventory import versions

pytestmark = [pytest.mark.airflow, pytest.mark.devcluster, pytest.mark.timeout(900)]

RUN = "on-call"
SLOW_START_SECONDS = 20.0
"""Longer than a task waits in its worker, so that the cold start is deferred."""


@pytest.fixture(scope="session")
def cluster(stack: Stack) -> Cluster:
    return cluster_of(str(stack.layout.kubeconfig))


def wait(check: Callable[[], Any], seconds: float, what: str) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := check():
            return found
        time.sleep(0.3)
    raise AssertionError(f"{what}: not within {seconds:.0f} s")


def running_task(client: Client, step: str) -> dict[str, Any] | None:
    task = next(task for task in client.tasks(DAG, RUN) if task["task_id"] == step)
    return task if task["state"] == "running" and task["pid"] else None


def state_of(client: Client, step: str) -> str:
    return next(task["state"] or "none" for task in client.tasks(DAG, RUN) if task["task_id"] == step)


def end_well(client: Client) -> None:
    """Do what on-call does: clear what failed, a few times at most."""
    for _ in range(4):
        if client.wait_run(DAG, RUN, 240)["state"] == "success":
            return
        client.clear(DAG, RUN, only_failed=True)
    raise AssertionError([(task["task_id"], task["state"]) for task in client.tasks(DAG, RUN)])


def test_a_rollout_ends_right_although_everything_it_runs_on_is_killed_once(
    stack: Stack, airflow: AirflowProcesses, client: Client, cluster: Cluster
):
    slow = {"id": "slow", "kind": "slow_start", "pods": f"{MODEL}-????????-0", "container": "*",
            "seconds": SLOW_START_SECONDS, "times": 1, "exit_code": 1}  # fmt: skip
    write_json(stack.layout.faults_file, [slow])
    client.trigger(DAG, {"revision": "v1"}, run_id=RUN)

    task = wait(lambda: running_task(client, "stage_weights"), 60, "stage_weights runs")
    assert airflow.kill_task(task["pid"])
    wait(lambda: state_of(client, "validate_rdma") in ("running", "deferred", "success"), 60, "validate_rdma runs")
    airflow.kill("api-server")
    airflow.restart("api-server")
    airflow.wait_healthy()
    client.wait_task(DAG, RUN, "await_cold_start", ("deferred",), 180)
    airflow.kill("triggerer")
    airflow.restart("triggerer")
    wait(lambda: running_task(client, "evaluate_canary"), 180, "evaluate_canary runs")
    airflow.kill("scheduler")
    airflow.restart("scheduler")
    client.answer(DAG, RUN, "approve", "Approve", timeout=180)
    end_well(client)

    lws = cluster.list(kinds.LEADER_WORKER_SET, NAMESPACE)
    entry = stack.record().run(RUN)
    assert entry is not None
    assert entry.outcome == "succeeded"
    assert [one["metadata"]["name"] for one in lws] == [entry.plan.lws]
    assert all(entry.ended_well(step) for step in PIPELINE)
    staged = entry.step("stage_weights").evidence
    assert staged["bytes_fetched"] == staged["bytes_total"] > 0
    stage_pods = [
        pod for pod in cluster.list(kinds.POD, NAMESPACE) if pod["metadata"]["name"].startswith(f"{MODEL}-stage")
    ]
    assert len(stage_pods) == 1
    service = cluster.get(kinds.SERVICE, NAMESPACE, SERVICE)
    assert service["spec"]["selector"][names.REVISION_LABEL] == entry.plan.revision_id


def test_clearing_every_task_of_a_finished_rollout_changes_nothing(stack: Stack, client: Client):
    before = versions(stack.layout.kubeconfig)
    assert any("/leaderworkersets/" in name for name in before)
    assert any("/pods/" in name for name in before)
    cleared = client.clear(DAG, RUN)
    assert set(cleared) >= set(PIPELINE)
    client.answer(DAG, RUN, "approve", "Approve", timeout=120)
    assert client.wait_run(DAG, RUN, 180)["state"] == "success"
    assert versions(stack.layout.kubeconfig) == before


def test_rejecting_rolls_back_and_the_run_is_red(stack: Stack, client: Client, cluster: Cluster):
    before = stack.record().current
    client.trigger(DAG, {"revision": "v2"}, run_id="rejected")
    client.answer(DAG, "rejected", "approve", "Reject", timeout=240)
    assert client.wait_run(DAG, "rejected", 120)["state"] == "failed"
    entry = stack.record().run("rejected")
    assert entry is not None
    assert (entry.outcome, stack.record().current) == ("rolled_back", before)
    assert "not approved" in entry.reason
    assert [one["metadata"]["name"] for one in cluster.list(kinds.LEADER_WORKER_SET, NAMESPACE)] == [before.lws]
