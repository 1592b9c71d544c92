"""What moving requests takes for granted of a gateway: of the devcluster's stand-in, and by choice of Traefik."""

from __future__ import annotations

import threading
from collections import Counter

import httpx
import pytest
from kubernetes import client

from devcluster import exposing

pytestmark = [pytest.mark.devcluster, pytest.mark.timeout(300)]

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
    """Two Services with a pod each, one without, and a route to the first of them."""

    def __init__(self, edge, until) -> None:
        self.core = client.CoreV1Api(edge.api)
        self.url = exposing.expose_gateway(edge.layout)
        self._edge = edge
        self._until = until

    def build(self) -> None:
        for name in (OLD, NEW):
            self._pod(name)
        for name in (OLD, NEW, EMPTY):
            ports = [{"name": "http", "port": 80, "targetPort": 8000}]
            body = {"metadata": {"name": name}, "spec": {"selector": {"app": name}, "ports": ports}}
            self.core.create_namespaced_service("default", body)
        self._edge.add_route("default", OLD)

    def remove(self) -> None:
        """Take all of it away."""
        self._edge.remove_route("default")
        for name in (OLD, NEW):
            self.core.delete_namespaced_pod(name, "default", body={"gracePeriodSeconds": 0})
        for name in (OLD, NEW, EMPTY):
            self.core.delete_namespaced_service(name, "default")

    def weigh(self, **weights: int) -> None:
        """Give Services these weights and wait until the gateway says that it has seen them."""
        found = self._edge.route("default")
        references = [{"name": name, "port": 80, "weight": weight} for name, weight in weights.items()]
        found["spec"]["rules"] = [{"backendRefs": references}]
        self._edge.replace_route("default", found)
        generation = self._edge.route("default")["metadata"]["generation"]
        self._until(lambda: self._generations() == {generation}, "the gateway has seen the weights")

    def _pod(self, name: str) -> None:
        probe = {"httpGet": {"path": "/", "port": 8000}, "periodSeconds": 1}
        main = {"name": "main", "image": "any", "command": ["python3", "-c", SERVER, name], "readinessProbe": probe}
        body = {"metadata": {"name": name, "labels": {"app": name}}, "spec": {"containers": [main]}}
        self.core.create_namespaced_pod("default", body)

    def _generations(self) -> set[int]:
        return {one["observedGeneration"] for one in self.conditions().values()}

    def conditions(self) -> dict[str, dict]:
        parents = self._edge.route("default").get("status", {}).get("parents") or [{"conditions": []}]
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


@pytest.fixture(scope="module")
def world(edge, until):
    found = World(edge, until)
    found.build()
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


def test_requests_are_shared_out_by_weight(world, until):
    world.weigh(old=75, new=25)
    until(lambda: world.ask() == NEW, "some requests reach the other Service")
    found = world.answers(200)

    assert found.keys() == {OLD, NEW}
    assert 25 <= found[NEW] <= 80, found


def test_a_weight_of_nothing_takes_all_requests_away_and_no_request_fails_meanwhile(world, until):
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


def test_an_open_stream_goes_on_where_it_began(world, until):
    world.weigh(new=1)
    until(lambda: world.answers(20).keys() == {NEW}, "all requests reach the other Service")
    with httpx.Client(timeout=30, trust_env=False) as user, user.stream("GET", f"{world.url}/stream") as reply:
        pieces = reply.iter_text()
        text = next(pieces)
        world.weigh(old=1)
        text += "".join(pieces)

    assert text == NEW * 40
    until(lambda: world.ask() == OLD, "new requests reach the first Service")


def test_without_a_pod_behind_the_service_a_request_is_refused(world, until):
    world.weigh(empty=1)

    until(lambda: world.ask() == "503", "nobody is there")
