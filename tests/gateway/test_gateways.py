"""What moving requests takes for granted of a gateway: of the devcluster's stand-in, and by choice of Traefik."""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import httpx
import pytest
from kubernetes import client, config

from devcluster import exposing, lifecycle, traefik
from devcluster.gateway import CLASS, CONTROLLER
from devcluster.layout import GATEWAY_PORT, Layout

pytestmark = [pytest.mark.devcluster, pytest.mark.timeout(300)]

GROUP = ("gateway.networking.k8s.io", "v1")
OLD, NEW, EMPTY = "old", "new", "empty"
SERVER = """
import http.server, sys, time
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *_): pass
    def do_GET(self):
        pieces = 40 if self.path == "/stream" else 1
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for _ in range(pieces):
            text = sys.argv[1].encode()
            self.wfile.write(b"%x\\r\\n%s\\r\\n" % (len(text), text))
            self.wfile.flush()
            time.sleep(0.1 if pieces > 1 else 0)
        self.wfile.write(b"0\\r\\n\\r\\n")
http.server.ThreadingHTTPServer(("", 8000), Handler).serve_forever()
"""


class World:
    """Two Services with a pod each, a Gateway, and a route to the first of them."""

    def __init__(self, layout: Layout) -> None:
        api = config.new_client_from_config(str(layout.kubeconfig))
        self.core = client.CoreV1Api(api)
        self.custom = client.CustomObjectsApi(api)
        self.url = exposing.expose_gateway(layout)

    def backend(self, name: str) -> None:
        labels = {"app": name}
        probe = {"httpGet": {"path": "/", "port": 8000}, "periodSeconds": 1}
        main = {"name": "main", "image": "any", "command": ["python3", "-c", SERVER, name], "readinessProbe": probe}
        self.core.create_namespaced_pod(
            "default", {"metadata": {"name": name, "labels": labels}, "spec": {"containers": [main]}}
        )
        ports = [{"name": "http", "port": 80, "targetPort": 8000}]
        self.core.create_namespaced_service(
            "default", {"metadata": {"name": name}, "spec": {"selector": labels, "ports": ports}}
        )

    def create(self, plural: str, kind: str, name: str, spec: dict, namespace: str = "default") -> None:
        body = {"apiVersion": "/".join(GROUP), "kind": kind, "metadata": {"name": name}, "spec": spec}
        if namespace:
            self.custom.create_namespaced_custom_object(*GROUP, namespace, plural, body)
        else:
            self.custom.create_cluster_custom_object(*GROUP, plural, body)

    def remove(self) -> None:
        """Take all of it away."""
        for plural, name in (("httproutes", "chat"), ("gateways", "main")):
            self.custom.delete_namespaced_custom_object(*GROUP, "default", plural, name)
        self.custom.delete_cluster_custom_object(*GROUP, "gatewayclasses", CLASS)
        for name in (OLD, NEW):
            self.core.delete_namespaced_pod(name, "default", body={"gracePeriodSeconds": 0})
        for name in (OLD, NEW, EMPTY):
            self.core.delete_namespaced_service(name, "default")

    def route(self) -> dict:
        return self.custom.get_namespaced_custom_object(*GROUP, "default", "httproutes", "chat")

    def weigh(self, **weights: int) -> None:
        """Give Services these weights and wait until the gateway says that it has seen them."""
        found = self.route()
        found["spec"]["rules"] = [
            {"backendRefs": [{"name": name, "port": 80, "weight": weight} for name, weight in weights.items()]}
        ]
        self.custom.replace_namespaced_custom_object(*GROUP, "default", "httproutes", "chat", found)
        generation = self.route()["metadata"]["generation"]
        until(lambda: {one["observedGeneration"] for one in self.conditions().values()} == {generation}, "it is seen")

    def conditions(self) -> dict[str, dict]:
        parents = self.route().get("status", {}).get("parents") or [{"conditions": []}]
        return {one["type"]: one for one in parents[0]["conditions"] if one["type"] in ("Accepted", "ResolvedRefs")}

    def answers(self, number: int) -> Counter[str]:
        """Who answered so many requests, each on a connection of its own."""
        found: Counter[str] = Counter()
        for _ in range(number):
            found[self.ask()] += 1
        return found

    def ask(self) -> str:
        with httpx.Client(timeout=20, trust_env=False) as user:
            reply = user.get(f"{self.url}/v1/models")
        return reply.text if reply.is_success else str(reply.status_code)


def until(check, what, seconds=20.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if check():
            return
        time.sleep(0.1)
    pytest.fail(f"not within {seconds} s: {what}")


@pytest.fixture(scope="module")
def with_traefik():
    """A devcluster whose gateway is Traefik."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(traefik.VARIABLE, str(traefik.program()))
        layout = Layout(Path(tempfile.mkdtemp(prefix="dc-", dir="/tmp")))
        lifecycle.up(layout, 1, 1, say=print, tied=True)
        yield layout
        lifecycle.down(layout)
        shutil.rmtree(layout.home, ignore_errors=True)


@pytest.fixture(scope="module", params=["standin", pytest.param("traefik", marks=pytest.mark.gateway)])
def world(request):
    """Each gateway with the same objects behind it."""
    if request.param == "traefik":
        layout, controller = request.getfixturevalue("with_traefik"), traefik.CONTROLLER
    else:
        layout, controller = Layout(request.getfixturevalue("cluster").home), CONTROLLER
    found = World(layout)
    found.create("gatewayclasses", "GatewayClass", CLASS, {"controllerName": controller}, namespace="")
    listener = {"name": "http", "protocol": "HTTP", "port": GATEWAY_PORT}
    found.create("gateways", "Gateway", "main", {"gatewayClassName": CLASS, "listeners": [listener]})
    for name in (OLD, NEW):
        found.backend(name)
    spec = {"selector": {"app": EMPTY}, "ports": [{"port": 80}]}
    found.core.create_namespaced_service("default", {"metadata": {"name": EMPTY}, "spec": spec})
    first = {"backendRefs": [{"name": OLD, "port": 80}]}
    found.create("httproutes", "HTTPRoute", "chat", {"parentRefs": [{"name": "main"}], "rules": [first]})
    until(lambda: found.ask() == OLD, "the route leads to its Service", 60)
    yield found
    found.remove()


def test_a_gateway_says_which_generation_of_the_route_it_has_taken(world):
    world.weigh(old=1)

    assert {name: one["status"] for name, one in world.conditions().items()} == {
        "Accepted": "True", "ResolvedRefs": "True",
    }  # fmt: skip


def test_a_service_that_does_not_exist_is_no_resolved_reference(world):
    world.weigh(old=99, nobody=1)
    told = world.conditions()

    assert told["Accepted"]["status"] == "True"
    assert (told["ResolvedRefs"]["status"], told["ResolvedRefs"]["reason"]) == ("False", "BackendNotFound")


def test_requests_are_shared_out_by_weight(world):
    world.weigh(old=75, new=25)
    until(lambda: world.ask() == NEW, "some requests reach the other Service")
    found = world.answers(200)

    assert found.keys() == {OLD, NEW}
    assert 25 <= found[NEW] <= 80, found


def test_a_weight_of_nothing_takes_all_requests_away_and_no_request_fails_meanwhile(world):
    world.weigh(old=50, new=50)
    seen, over = [], threading.Event()

    def go_on():
        while not over.is_set():
            seen.append(world.ask())

    user = threading.Thread(target=go_on, daemon=True)
    user.start()
    for _ in range(3):
        world.weigh(old=100, new=0)
        until(lambda: set(seen[-20:]) == {OLD}, "nobody reaches it any more")
        world.weigh(old=50, new=50)
        until(lambda: NEW in seen[-5:], "some reach it again")
    world.weigh(old=1)
    over.set()
    user.join(timeout=30)

    assert set(seen) == {OLD, NEW}, Counter(seen)


def test_an_open_stream_goes_on_where_it_began(world):
    world.weigh(new=1)
    until(lambda: world.ask() == NEW, "all requests reach the other Service")
    with httpx.Client(timeout=30, trust_env=False) as user, user.stream("GET", f"{world.url}/stream") as reply:
        pieces = reply.iter_text()
        text = next(pieces)
        world.weigh(old=1)
        text += "".join(pieces)

    assert text == NEW * 40
    until(lambda: world.ask() == OLD, "new requests reach the first Service")


def test_without_a_pod_behind_the_service_a_request_is_refused(world):
    world.weigh(empty=1)

    until(lambda: world.ask() == "503", "nobody is there")
