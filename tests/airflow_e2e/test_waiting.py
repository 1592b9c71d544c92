"""A wait outlives the API server and the triggerer that it runs in: its verdict is neither lost nor invented."""

from __future__ import annotations

import time

import psutil
import pytest

from devcluster.airflow import AirflowProcesses, Client
from devcluster.demo.stack import DAG, MODEL, Stack
from devcluster.layout import write_json

pytestmark = [pytest.mark.airflow, pytest.mark.devcluster, pytest.mark.timeout(400)]

RUN = "long-wait"
SLOW_START_SECONDS = 30.0
"""Longer than both failures together, so that the group is ready only after them."""


def test_a_wait_outlives_the_api_server_and_its_triggerer(stack: Stack, airflow: AirflowProcesses, client: Client):
    slow = {"id": "slow", "kind": "slow_start", "pods": f"{MODEL}-????????-0", "container": "*",
            "seconds": SLOW_START_SECONDS, "times": None, "exit_code": 1}  # fmt: skip
    write_json(stack.layout.faults_file, [slow])
    client.trigger(DAG, {"revision": "v2"}, run_id=RUN)
    client.wait_task(DAG, RUN, "await_cold_start", ("deferred",), 180)

    kill_api_server(stack)
    time.sleep(1)  # The wait meets an API server that is away before its own process dies.
    airflow.kill("triggerer")
    assert state(client) == "deferred"
    airflow.restart("triggerer")
    client.wait_task(DAG, RUN, "await_cold_start", ("success",), 150)

    entry = stack.record().run(RUN)
    assert entry is not None
    step = entry.step("await_cold_start")
    assert step is not None
    assert step.verdict == "done"
    assert step.ended - step.started >= SLOW_START_SECONDS / 2, "it was called ready before it was"


def state(client: Client) -> str:
    return next(task["state"] for task in client.tasks(DAG, RUN) if task["task_id"] == "await_cold_start")


def kill_api_server(stack: Stack) -> None:
    """SIGKILL; the devcluster starts it again."""
    holder = psutil.Process(stack.layout.read_state()["pid"])
    killed = [process for process in holder.children(recursive=True) if process.name() == "kube-apiserver"]
    assert len(killed) == 1
    killed[0].kill()
