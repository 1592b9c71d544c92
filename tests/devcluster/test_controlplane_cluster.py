"""What only a running cluster can show."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
from kubernetes import client

pytestmark = pytest.mark.devcluster

NAMESPACE = "default"
LWS = ("leaderworkerset.x-k8s.io", "v1", NAMESPACE, "leaderworkersets")
NAMER = """
import os, socketserver
class Say(socketserver.StreamRequestHandler):
    def handle(self):
        while self.rfile.read(1):
            self.wfile.write(os.environ['NAME'].encode())
socketserver.ThreadingTCPServer.allow_reuse_address = True
socketserver.ThreadingTCPServer(('', 8000), Say).serve_forever()
"""
"""A server that answers each byte with its name's one letter."""


@pytest.fixture
def api(cluster: Any) -> Iterator[client.ApiClient]:
    with cluster.api() as found:
        yield found


@pytest.fixture
def core(api: client.ApiClient) -> client.CoreV1Api:
    return client.CoreV1Api(api)


def pod_spec(script: str, env: dict[str, str] | None = None, **container: Any) -> dict[str, Any]:
    variables = [{"name": name, "value": value} for name, value in (env or {}).items()]
    main = {"name": "main", "image": "any", "command": ["python3", "-c", script], "env": variables, **container}
    return {"containers": [main], "terminationGracePeriodSeconds": 0}


def namer(letter: str) -> dict[str, Any]:
    probe = {"tcpSocket": {"port": 8000}, "periodSeconds": 1}
    spec = pod_spec(NAMER, {"NAME": letter}, readinessProbe=probe)
    return {"metadata": {"name": f"namer-{letter}", "labels": {"app": "namer", "letter": letter}}, "spec": spec}


def test_a_group_of_three_pods_is_created_twice_and_scheduled(cluster: Any, api: client.ApiClient) -> None:
    template = {"spec": pod_spec("import time; time.sleep(600)", resources={"limits": {"nvidia.com/gpu": "8"}})}
    body = {
        "apiVersion": "leaderworkerset.x-k8s.io/v1",
        "kind": "LeaderWorkerSet",
        "metadata": {"name": "six"},
        "spec": {"replicas": 2, "leaderWorkerTemplate": {"size": 3, "workerTemplate": template}},
    }
    custom, core = client.CustomObjectsApi(api), client.CoreV1Api(api)
    selector = "leaderworkerset.sigs.k8s.io/name=six"
    custom.create_namespaced_custom_object(*LWS, body)

    def nodes() -> set[str]:
        pods = core.list_namespaced_pod(NAMESPACE, label_selector=selector).items
        return {pod.spec.node_name for pod in pods if pod.spec.node_name}

    try:
        cluster.wait(lambda: len(nodes()) == 6, 30, "one pod on each of the six nodes, for each takes all eight GPUs")
    finally:
        custom.delete_namespaced_custom_object(*LWS, "six")
    cluster.wait(lambda: not nodes(), 30, "the pods are gone")


@pytest.fixture
def two_namers(cluster: Any, core: client.CoreV1Api) -> Iterator[str]:
    """Pods that say ``a`` and ``b`` behind a Service that selects ``a``; the address on this machine."""
    for letter in "ab":
        core.create_namespaced_pod(NAMESPACE, namer(letter))
    service = {
        "metadata": {"name": "namer"},
        "spec": {"selector": {"letter": "a"}, "ports": [{"port": 80, "targetPort": 8000}]},
    }
    core.create_namespaced_service(NAMESPACE, service)

    def ready() -> bool:
        pods = core.list_namespaced_pod(NAMESPACE, label_selector="app=namer").items
        found = [condition for pod in pods for condition in pod.status.conditions or () if condition.type == "Ready"]
        return [condition.status for condition in found] == ["True", "True"]

    try:
        cluster.wait(ready, 30, "both pods are ready")
        yield cluster.run("expose", "namer")
    finally:
        core.delete_namespaced_service("namer", NAMESPACE)
        for letter in "ab":
            core.delete_namespaced_pod(f"namer-{letter}", NAMESPACE)


def connect(url: str) -> socket.socket:
    parts = urlsplit(url)
    return socket.create_connection((str(parts.hostname), int(parts.port or 0)), timeout=10)


def ask(connection: socket.socket) -> str:
    """The letter of whoever is at the other end; empty when nobody is."""
    with contextlib.suppress(ConnectionError):
        connection.sendall(b"?")
        return connection.recv(1).decode()
    return ""


def answer(url: str) -> str:
    """As ``ask`` on a new connection; without anybody the reset may come before the question."""
    with contextlib.suppress(ConnectionError), connect(url) as connection:
        return ask(connection)
    return ""


def test_a_new_selector_moves_new_connections_and_keeps_open_ones(
    cluster: Any, core: client.CoreV1Api, two_namers: str
) -> None:
    cluster.wait(lambda: answer(two_namers) == "a", 10, "the Service leads to a")
    with connect(two_namers) as kept:
        assert ask(kept) == "a"
        core.patch_namespaced_service("namer", NAMESPACE, {"spec": {"selector": {"letter": "b"}}})
        cluster.wait(lambda: answer(two_namers) == "b", 5, "new connections lead to b")
        assert [answer(two_namers) for _ in range(20)] == ["b"] * 20
        assert ask(kept) == "a"
    core.patch_namespaced_service("namer", NAMESPACE, {"spec": {"selector": {"letter": "nobody"}}})
    cluster.wait(lambda: answer(two_namers) == "", 5, "without endpoints connections are reset")


def test_the_same_service_is_exposed_at_the_same_address(cluster: Any, two_namers: str) -> None:
    assert cluster.run("expose", "namer") == two_namers
    assert two_namers in cluster.run("status")


def test_a_claim_gets_a_volume_and_takes_its_folder_along(cluster: Any, core: client.CoreV1Api) -> None:
    spec = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}}
    core.create_namespaced_persistent_volume_claim(NAMESPACE, {"metadata": {"name": "scratch"}, "spec": spec})
    folder = cluster.home / "volumes" / NAMESPACE / "scratch"

    def bound() -> bool:
        return bool(core.read_namespaced_persistent_volume_claim("scratch", NAMESPACE).status.phase == "Bound")

    cluster.wait(bound, 10, "the claim is bound")
    assert folder.is_dir()
    core.delete_namespaced_persistent_volume_claim("scratch", NAMESPACE)
    cluster.wait(lambda: not folder.exists(), 10, "the folder is gone")


def component(cluster: Any, name: str) -> dict[str, Any]:
    return next(item for item in cluster.status()["components"] if item["name"] == name)


def test_a_component_that_dies_is_started_again_and_the_log_says_so(cluster: Any) -> None:
    scheduler = next(process for process in cluster.processes() if process.name() == "kube-scheduler")
    scheduler.kill()
    cluster.wait(lambda: component(cluster, "kube-scheduler")["restarts"] == 1, 5, "the death is noticed")
    cluster.wait(lambda: component(cluster, "kube-scheduler")["state"] == "up", 20, "it is up again")
    assert "kube-scheduler ended with -9" in cluster.run("logs", "supervisor")


def ready_nodes(cluster: Any) -> set[str]:
    return {node["name"] for node in cluster.status()["nodes"] if node["ready"]}


def test_a_node_without_power_turns_not_ready_and_comes_back(cluster: Any) -> None:
    cluster.run("fail-node", "node-6")
    try:
        cluster.wait(lambda: "node-6" not in ready_nodes(cluster), 45, "node-6 is given up after its grace period")
        assert ready_nodes(cluster) == {f"node-{number}" for number in range(1, 6)}
    finally:
        cluster.run("restore-node", "node-6")
    cluster.wait(lambda: "node-6" in ready_nodes(cluster), 15, "its next heartbeat brings it back")


def test_a_killed_devcluster_leaves_no_process(second_cluster: Any, survivors: Any) -> None:
    processes: list[psutil.Process] = second_cluster.processes()
    assert len(processes) > 8
    processes[0].kill()
    assert survivors(processes) == []
    assert str(second_cluster.home) not in Path("/proc/self/mounts").read_text()
