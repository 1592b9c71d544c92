"""What controllers, a lost node and a new agent make of pods."""

from __future__ import annotations

from typing import Any

import pytest
from kubernetes import client
from kubernetes.client.exceptions import ApiException

pytestmark = pytest.mark.devcluster

NAMESPACE = "default"
LWS = ("leaderworkerset.x-k8s.io", "v1", NAMESPACE, "leaderworkersets")
BACKGROUND = {"propagationPolicy": "Background"}
AGENT_SECONDS = 40
"""The supervisor pauses before it starts a component again, the longer the more often it died."""


@pytest.mark.parametrize(("script", "outcome"), [("echo done", "Complete"), ("echo no; exit 3", "Failed")])
def test_a_job_ends_as_its_container_does(cluster: Any, api: client.ApiClient, script: str, outcome: str) -> None:
    batch, name = client.BatchV1Api(api), f"job-{outcome.lower()}"
    container = {"name": "main", "image": "any", "command": ["sh", "-c", script]}
    template = {"spec": {"containers": [container], "restartPolicy": "Never"}}
    batch.create_namespaced_job(
        NAMESPACE, {"metadata": {"name": name}, "spec": {"backoffLimit": 0, "template": template}}
    )

    def ended() -> list[str]:
        conditions = batch.read_namespaced_job_status(name, NAMESPACE).status.conditions or ()
        return [item.type for item in conditions if item.status == "True" and item.type in {"Complete", "Failed"}]

    try:
        assert cluster.wait(ended, 25, f"{name} has ended") == [outcome]
    finally:
        batch.delete_namespaced_job(name, NAMESPACE, body=BACKGROUND)


def test_a_killed_worker_has_its_whole_group_made_anew(pods: Any, api: client.ApiClient) -> None:
    # Each process can be told by its argument.
    script = 'exec sleep "3600.7$LWS_WORKER_INDEX"'
    container = {"name": "main", "image": "any", "command": ["sh", "-c", script]}
    template = {"spec": {"containers": [container], "terminationGracePeriodSeconds": 0}}
    group = {"size": 2, "restartPolicy": "RecreateGroupOnPodRestart", "workerTemplate": template}
    body = {"apiVersion": "leaderworkerset.x-k8s.io/v1", "kind": "LeaderWorkerSet", "metadata": {"name": "group"}}
    custom = client.CustomObjectsApi(api)
    custom.create_namespaced_custom_object(*LWS, body | {"spec": {"replicas": 1, "leaderWorkerTemplate": group}})

    def uids() -> set[str]:
        """Those of the two pods, once both run."""
        selector = "leaderworkerset.sigs.k8s.io/name=group"
        found = pods.core.list_namespaced_pod(NAMESPACE, label_selector=selector).items
        running = {
            pod.metadata.uid for pod in found if pod.status.phase == "Running" and not pod.metadata.deletion_timestamp
        }
        return running if len(running) == 2 else set()

    try:
        first = pods.wait(uids, "the group runs")
        (worker,) = pods.wait(lambda: pods.processes("sleep", "3600.71"), "the worker's process is there")
        worker.kill()
        pods.wait(lambda: (now := uids()) and not now & first, "both pods are new ones", seconds=40)
    finally:
        custom.delete_namespaced_custom_object(*LWS, "group")


def test_a_node_that_fails_loses_its_processes_but_not_its_pods(cluster: Any, pods: Any) -> None:
    here = {"nodeSelector": {"kubernetes.io/hostname": "node-5"}}
    pods.create("doomed", "echo $$; exec sleep 3600.3", pod=here)
    pods.create("spared", "exec sleep 3600.4", pod={"nodeSelector": {"kubernetes.io/hostname": "node-4"}})
    pods.until_runs("doomed")
    pods.until_runs("spared")
    cluster.run("fail-node", "node-5")
    try:
        pods.wait(lambda: not pods.processes("sleep", "3600.3"), "its process is gone")
        assert pods.get("doomed").status.phase == "Running"
        with pytest.raises(ApiException):
            pods.log("doomed")
    finally:
        cluster.run("restore-node", "node-5")
    main = pods.until_runs("doomed", restarts=1)
    assert main.last_state.terminated.reason == "ContainerStatusUnknown"
    assert pods.main("spared").restart_count == 0


def test_a_pod_deleted_from_a_failed_node_stays_until_the_node_is_back(cluster: Any, pods: Any) -> None:
    deaf = "trap '' TERM; echo up; sleep 3600.6 & while :; do wait; done"
    pods.create("stranded", deaf, pod={"nodeSelector": {"kubernetes.io/hostname": "node-5"}})
    pods.until_runs("stranded")
    pods.wait(lambda: pods.log("stranded"), "it ignores SIGTERM")
    # The deletion is under way when the power goes.
    pods.delete("stranded", seconds=30)
    pods.wait(lambda: pods.events("stranded", "Killing"), "the deletion has begun")
    cluster.run("fail-node", "node-5")
    try:
        pods.wait(lambda: not pods.processes("sleep", "3600.6"), "its process is gone")
        assert pods.exists("stranded")
    finally:
        cluster.run("restore-node", "node-5")
    pods.wait(lambda: not pods.exists("stranded"), "the node has ended it")


def test_a_new_agent_restarts_what_shall_run_and_fails_what_must_not_run_twice(cluster: Any, pods: Any) -> None:
    pods.create("service", "echo up; exec sleep 3600")
    pods.create("once", "exec sleep 3600", pod={"restartPolicy": "Never"})
    pods.create("done", "echo result", pod={"restartPolicy": "Never"})
    pods.until_phase("done", "Succeeded")
    pods.until_runs("once")
    pods.until_runs("service")
    agent = next(process for process in cluster.processes() if "devcluster.node" in process.cmdline())
    agent.kill()
    pods.wait(lambda: pods.main("service").restart_count == 1, "a new agent took over", seconds=AGENT_SECONDS)
    pods.until_runs("service", restarts=1)
    pods.until_phase("once", "Failed")
    assert pods.main("once").state.terminated.reason == "ContainerStatusUnknown"
    assert pods.get("done").status.phase == "Succeeded"
    assert pods.log("done") == "result\n"
    assert pods.log("service", previous=True) == "up\n"
