"""Who can talk to whom: pods to pods and Services, by address and by name, and to nobody outside."""

from __future__ import annotations

import ipaddress
import json
import socket
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
from kubernetes import client

pytestmark = pytest.mark.devcluster

SERVER = """
import http.server, socket
class Say(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(socket.gethostname().encode())
http.server.ThreadingHTTPServer(("", 8000), Say).serve_forever()
"""
CLIENT = """
import json, sys, urllib.request
open_directly = urllib.request.build_opener(urllib.request.ProxyHandler({})).open
found = {}
for host in sys.argv[2:]:
    try:
        found[host] = open_directly(f"http://{host}", timeout=float(sys.argv[1])).read().decode()
    except OSError as error:
        found[host] = f"{type(error).__name__}: {error}"
print(json.dumps(found))
"""


def ask(pods: Any, *hosts: str, seconds: float = 5) -> dict[str, str]:
    """What a new pod hears from each host within that time."""
    pods.create("asker", "", command=["python3", "-c", CLIENT, str(seconds), *hosts], pod={"restartPolicy": "Never"})
    pods.until_phase("asker", "Succeeded")
    found: dict[str, str] = json.loads(pods.log("asker"))
    return found


@pytest.fixture
def servers(pods: Any, core: client.CoreV1Api) -> Iterator[list[str]]:
    """Two pods that say their names, both on port 8000, with a Service; the pods' addresses."""
    probe = {"httpGet": {"port": 8000}, "periodSeconds": 1}
    for letter in "xy":
        metadata = {"labels": {"app": "sayer"}}
        names = {"hostname": f"sayer-{letter}", "subdomain": "sayers"}
        command = ["python3", "-c", SERVER]
        pods.create(f"sayer-{letter}", "", metadata=metadata, pod=names, command=command, readinessProbe=probe)
    ports = [{"port": 80, "targetPort": 8000}]
    core.create_namespaced_service(
        "default", {"metadata": {"name": "sayer"}, "spec": {"selector": {"app": "sayer"}, "ports": ports}}
    )
    try:
        for letter in "xy":
            pods.until_ready(f"sayer-{letter}")
        yield [pods.get(f"sayer-{letter}").status.pod_ip for letter in "xy"]
    finally:
        core.delete_namespaced_service("sayer", "default")


def test_pods_reach_each_other_by_address_and_by_name(pods: Any, servers: list[str]) -> None:
    x, y = servers
    names = ["sayer-y:8000", "sayer-y.sayers:8000", "sayer-y.sayers.default.svc.cluster.local:8000"]
    assert ask(pods, f"{x}:8000", f"{y}:8000", *names) == {
        f"{x}:8000": "sayer-x",
        f"{y}:8000": "sayer-y",
        **dict.fromkeys(names, "sayer-y"),
    }


def test_pods_reach_a_service_by_address_and_by_name(pods: Any, core: client.CoreV1Api, servers: list[str]) -> None:
    assert len(servers) == 2
    address = core.read_namespaced_service("sayer", "default").spec.cluster_ip
    heard = ask(pods, address, "sayer", "sayer.default", "sayer.default.svc.cluster.local")
    assert set(heard.values()) == {"sayer-x", "sayer-y"}, heard


def addresses() -> list[str]:
    """This machine's own addresses, as its neighbours know it."""
    found = [
        item.address for items in psutil.net_if_addrs().values() for item in items if item.family == socket.AF_INET
    ]
    return [address for address in found if not ipaddress.ip_address(address).is_loopback]


def test_nothing_outside_can_be_reached(pods: Any) -> None:
    with socket.create_server(("", 0)) as listener:
        port = listener.getsockname()[1]
        outside = [f"{address}:{port}" for address in ["127.0.0.1", *addresses()[:1]]]
        heard = ask(pods, *outside, "1.1.1.1", "example.invalid", seconds=1)
        listener.settimeout(0)
        with pytest.raises(BlockingIOError):
            listener.accept()
    assert all("Error" in answer for answer in heard.values()), heard


def test_an_unknown_name_is_refused_at_once(pods: Any) -> None:
    script = (
        "import socket, time\nbegan = time.monotonic()\ntry: socket.getaddrinfo('nobody', 80)\nexcept OSError: pass"
    )
    script += "\nprint(time.monotonic() - began)"
    pods.create("seeker", "", command=["python3", "-c", script], pod={"restartPolicy": "Never"})
    pods.until_phase("seeker", "Succeeded")
    assert float(pods.log("seeker")) < 1
