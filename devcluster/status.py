"""What runs, for people and for programs."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import httpx

from devcluster import control
from devcluster.api import Api, ApiError
from devcluster.layout import Layout


def collect(layout: Layout) -> dict[str, Any]:
    """Phase, components, nodes, pods and addresses. Raises control.NotRunningError."""
    told = control.ask(layout.control_socket, {"command": "status"})
    state = layout.read_state()
    found = told | {
        "home": str(layout.home),
        "kubeconfig": str(layout.kubeconfig),
        "api_server": f"https://127.0.0.1:{state['api_port']}",
        "hub": f"http://127.0.0.1:{state['hub_port']}",
        "exposed": state["exposed"],
        "failed_nodes": sorted(layout.failed_nodes()),
    }
    try:
        return found | asyncio.run(_objects(layout))
    except (httpx.HTTPError, ApiError) as error:
        return found | {"nodes": [], "pods": {}, "message": f"the API server does not answer: {error}"}


async def _objects(layout: Layout) -> dict[str, Any]:
    async with Api(layout.kubeconfig) as api:
        nodes = (await api.get("/api/v1/nodes"))["items"]
        pods = (await api.get("/api/v1/pods"))["items"]
    placed = Counter(pod["spec"].get("nodeName", "") for pod in pods)
    return {
        "nodes": [_node(node, placed[node["metadata"]["name"]]) for node in nodes],
        "pods": dict(Counter(pod["status"].get("phase", "Unknown") for pod in pods)),
    }


def _node(node: dict[str, Any], pods: int) -> dict[str, Any]:
    conditions = {item["type"]: item["status"] for item in node["status"].get("conditions", [])}
    return {
        "name": node["metadata"]["name"],
        "ready": conditions.get("Ready") == "True",
        "address": next(item["address"] for item in node["status"]["addresses"] if item["type"] == "InternalIP"),
        "gpus": int(node["status"]["capacity"]["nvidia.com/gpu"]),
        "pods": pods,
    }


def text(found: dict[str, Any]) -> str:
    """The same for a terminal."""
    lines = [f"devcluster at {found['home']}: {found['phase']} {found['message']}".rstrip()]
    lines += [f"  {item['name']:24} {item['state']:9}{_restarts(item)}" for item in found["components"]]
    for node in found["nodes"]:
        ready = "ready" if node["ready"] else "not ready"
        lines.append(f"  {node['name']:24} {ready:9} {node['address']}, {node['gpus']} GPUs, {node['pods']} pods")
    pods = ", ".join(f"{count} {phase}" for phase, count in sorted(found["pods"].items())) or "none"
    lines += [f"pods: {pods}", f"API server: {found['api_server']}  hub: {found['hub']}"]
    lines += [_exposed(item) for item in found["exposed"]]
    if found["failed_nodes"]:
        lines.append(f"playing dead: {', '.join(found['failed_nodes'])}")
    return "\n".join([*lines, f"export KUBECONFIG={found['kubeconfig']}"])


def _restarts(item: dict[str, Any]) -> str:
    return f" restarted {item['restarts']} times, last {item['note']}" if item["restarts"] else ""


def _exposed(item: dict[str, Any]) -> str:
    return f"exposed: http://127.0.0.1:{item['local_port']} -> {item['namespace']}/{item['service']}:{item['port']}"
