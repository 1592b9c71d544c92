"""A devcluster behind each gateway: the stand-in, and by choice Traefik."""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path

import pytest
from kubernetes import client, config

from devcluster import lifecycle, traefik
from devcluster.gateway import CLASS, CONTROLLER
from devcluster.layout import GATEWAY_PORT, Layout

GROUP = ("gateway.networking.k8s.io", "v1")
NODES, GPUS = 4, 8
"""Two groups of two nodes, side by side."""


class Edge:
    """A Gateway that takes routes of all namespaces."""

    def __init__(self, layout: Layout, controller: str) -> None:
        self.layout = layout
        self.api = config.new_client_from_config(str(layout.kubeconfig))
        self.custom = client.CustomObjectsApi(self.api)
        self._controller = controller

    def open(self) -> None:
        classes = {**self._named("GatewayClass", CLASS), "spec": {"controllerName": self._controller}}
        self.custom.create_cluster_custom_object(*GROUP, "gatewayclasses", classes)
        listener = {"name": "http", "protocol": "HTTP", "port": GATEWAY_PORT}
        listener |= {"allowedRoutes": {"namespaces": {"from": "All"}}}
        gateway = {**self._named("Gateway", "main"), "spec": {"gatewayClassName": CLASS, "listeners": [listener]}}
        self.custom.create_namespaced_custom_object(*GROUP, "default", "gateways", gateway)

    def close(self) -> None:
        self.custom.delete_namespaced_custom_object(*GROUP, "default", "gateways", "main")
        self.custom.delete_cluster_custom_object(*GROUP, "gatewayclasses", CLASS)

    def add_route(self, namespace: str, service: str) -> None:
        """A route ``chat`` of all requests to a Service."""
        spec = {
            "parentRefs": [{"name": "main", "namespace": "default"}],
            "rules": [{"backendRefs": [{"name": service, "port": 80}]}],
        }
        body = {**self._named("HTTPRoute", "chat"), "spec": spec}
        self.custom.create_namespaced_custom_object(*GROUP, namespace, "httproutes", body)

    def route(self, namespace: str) -> dict:
        return self.custom.get_namespaced_custom_object(*GROUP, namespace, "httproutes", "chat")

    def replace_route(self, namespace: str, body: dict) -> None:
        self.custom.replace_namespaced_custom_object(*GROUP, namespace, "httproutes", "chat", body)

    def remove_route(self, namespace: str) -> None:
        self.custom.delete_namespaced_custom_object(*GROUP, namespace, "httproutes", "chat")

    @staticmethod
    def _named(kind: str, name: str) -> dict:
        return {"apiVersion": "/".join(GROUP), "kind": kind, "metadata": {"name": name}}


@pytest.fixture(scope="session")
def with_traefik():
    """A devcluster whose gateway is Traefik."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(traefik.VARIABLE, str(traefik.program()))
        layout = Layout(Path(tempfile.mkdtemp(prefix="dc-", dir="/tmp")))
        lifecycle.up(layout, NODES, GPUS, say=print, tied=True)
        yield layout
        lifecycle.down(layout)
        shutil.rmtree(layout.home, ignore_errors=True)


@pytest.fixture(scope="module", params=["standin", pytest.param("traefik", marks=pytest.mark.gateway)])
def edge(request):
    """Each gateway in turn."""
    if request.param == "traefik":
        found = Edge(request.getfixturevalue("with_traefik"), traefik.CONTROLLER)
    else:
        found = Edge(Layout(request.getfixturevalue("cluster").home), CONTROLLER)
    found.open()
    yield found
    found.close()


@pytest.fixture(scope="session")
def until():
    """Waits for a condition."""

    def wait(check, what, seconds=20.0):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if check():
                return
            time.sleep(0.1)
        pytest.fail(f"not within {seconds} s: {what}")

    return wait
