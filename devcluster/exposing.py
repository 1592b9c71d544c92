"""A port of this machine that leads to a Service inside the cluster."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from devcluster import control
from devcluster.api import Api, ApiError
from devcluster.layout import GATEWAY_PORT, ROOT_ADDRESS, Layout


def expose(layout: Layout, namespace: str, service: str, port: int | None, local_port: int) -> str:
    """The URL; it works until the cluster ends. The same Service and port give the same URL again.

    Raises ValueError when there is no such Service or port, or ``local_port`` is taken; control.NotRunningError.
    """
    control.ask(layout.control_socket, {"command": "status"})
    address, number = asyncio.run(_address(layout, namespace, service, port))
    for known in layout.read_state().get("exposed", []):
        same = (known["namespace"], known["service"], known["port"], known["host"])
        if same == (namespace, service, number, address) and local_port in (0, known["local_port"]):
            return f"http://127.0.0.1:{known['local_port']}"
    return _exposed(layout, address, number, local_port, {"namespace": namespace, "service": service})


def expose_gateway(layout: Layout) -> str:
    """The URL of the gateway stand-in; it works until the cluster ends.

    Raises:
        control.NotRunningError: There is no cluster.
    """
    control.ask(layout.control_socket, {"command": "status"})
    return _exposed(layout, ROOT_ADDRESS, GATEWAY_PORT, 0, {"namespace": "", "service": "gateway"})


def _exposed(layout: Layout, host: str, port: int, local_port: int, what: dict[str, str]) -> str:
    with _listen(local_port) as listening:
        local = listening.getsockname()[1]
        exposed = {**what, "port": port, "host": host, "local_port": local}
        control.ask(
            layout.control_socket, {"command": "expose", "host": host, "port": port, "exposed": exposed}, [listening]
        )
    return f"http://127.0.0.1:{local}"


def _listen(port: int) -> socket.socket:
    """A socket made here stays on this machine's loopback, though the supervisor will serve it from inside."""
    try:
        return socket.create_server(("127.0.0.1", port), backlog=1024)
    except OSError as error:
        raise ValueError(f"--local-port {port}: {error.strerror}; choose another or leave it out") from error


async def _address(layout: Layout, namespace: str, service: str, port: int | None) -> tuple[str, int]:
    async with Api(layout.kubeconfig) as api:
        try:
            found = await api.get(f"/api/v1/namespaces/{namespace}/services/{service}")
        except ApiError as error:
            raise ValueError(f"service {service!r} in namespace {namespace!r}: {error}") from error
    spec: dict[str, Any] = found["spec"]
    if spec.get("clusterIP") in (None, "", "None"):
        raise ValueError(f"service {service!r} is headless: it has no address of its own, expose one that has")
    ports = [item["port"] for item in spec.get("ports", [])]
    if port is not None and port not in ports:
        raise ValueError(f"--port {port}: service {service!r} has {ports}")
    return spec["clusterIP"], port or ports[0]
