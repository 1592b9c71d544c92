"""Node objects without machines behind them: made once, then kept alive by heartbeats."""

from __future__ import annotations

import asyncio
import datetime as dt
import platform
import uuid
from collections.abc import Sequence
from typing import Any

import httpx

from devcluster.api import Api, ApiError
from devcluster.layout import KUBELET_PORT, Layout, node_address

HEARTBEAT_SECONDS = 4.0
"""A few heartbeats fit into the controller manager's grace period, so one lost on a busy machine is no outage."""
LEASE_SECONDS = 40
RDMA_DEVICES = 1000
"""What k8s-rdma-shared-dev-plugin offers per port by convention: a permission, not a quantity."""

_LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"


async def create(api: Api, names: Sequence[str], gpus: int) -> None:
    """Create the Nodes with their resources, ready at once."""
    await api.create("/api/v1/namespaces", _namespace("kube-node-lease"))
    await asyncio.gather(*(_create_one(api, name, gpus) for name in names))


async def _create_one(api: Api, name: str, gpus: int) -> None:
    labels = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": _architecture()}
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}}
    await api.create("/api/v1/nodes", node)
    await api.patch(f"/api/v1/nodes/{name}/status", {"status": status(name, gpus)})
    await api.create(_LEASES, _lease(name))


def status(name: str, gpus: int) -> dict[str, Any]:
    """What a kubelet would report of this node."""
    capacity = {
        "cpu": "128",
        "memory": "1Ti",
        "pods": "110",
        "ephemeral-storage": "1Ti",
        "nvidia.com/gpu": str(gpus),
        "rdma/rdma_shared_device_a": str(RDMA_DEVICES),
    }
    now = _now()
    addresses = [{"type": "InternalIP", "address": node_address(name)}, {"type": "Hostname", "address": name}]
    return {
        "capacity": capacity,
        "allocatable": capacity,
        "addresses": addresses,
        "daemonEndpoints": {"kubeletEndpoint": {"Port": KUBELET_PORT}},
        "nodeInfo": _node_info(),
        "conditions": [*_pressures(now), _ready(now, now)],
    }


async def keep_alive(api: Api, layout: Layout, names: Sequence[str]) -> None:
    """Renew the leases and the Ready condition of every node that does not play dead, for ever."""
    while True:
        await asyncio.sleep(HEARTBEAT_SECONDS)
        alive = [name for name in names if name not in layout.failed_nodes()]
        await asyncio.gather(*(_renew(api, name) for name in alive))
        await _revive(api, alive)


async def _renew(api: Api, name: str) -> None:
    try:
        await api.patch(f"{_LEASES}/{name}", {"spec": {"renewTime": _now(micro=True)}})
    except ApiError as error:
        if error.status != httpx.codes.NOT_FOUND:
            raise
        await api.create(_LEASES, _lease(name))


async def _revive(api: Api, alive: Sequence[str]) -> None:
    """Set Ready again where the controller manager has given a node up; a kubelet does so when it comes back."""
    for node in (await api.get("/api/v1/nodes"))["items"]:
        name = node["metadata"]["name"]
        conditions = node["status"].get("conditions", [])
        if name in alive and any(_is_stale(condition) for condition in conditions):
            now = _now()
            body = {"status": {"conditions": [*_pressures(now), _ready(now, now)]}}
            await api.patch(f"/api/v1/nodes/{name}/status", body)


def _is_stale(condition: dict[str, Any]) -> bool:
    return bool(condition["status"] == "Unknown" or (condition["type"] == "Ready" and condition["status"] != "True"))


def _ready(heartbeat: str, since: str) -> dict[str, str]:
    return _condition("Ready", "True", "KubeletReady", heartbeat, since)


def _pressures(now: str) -> list[dict[str, str]]:
    kinds = {"MemoryPressure": "SufficientMemory", "DiskPressure": "SufficientDisk", "PIDPressure": "SufficientPID"}
    return [_condition(kind, "False", f"KubeletHas{reason}", now, now) for kind, reason in kinds.items()]


def _condition(kind: str, value: str, reason: str, heartbeat: str, since: str) -> dict[str, str]:
    return {
        "type": kind,
        "status": value,
        "reason": reason,
        "message": "reported by the devcluster",
        "lastHeartbeatTime": heartbeat,
        "lastTransitionTime": since,
    }


def _node_info() -> dict[str, str]:
    empty = dict.fromkeys(("machineID", "systemUUID", "kubeProxyVersion"), "")
    return {
        **empty,
        "bootID": str(uuid.uuid4()),  # A node starts when the devcluster does.
        "architecture": _architecture(),
        "operatingSystem": "linux",
        "kernelVersion": "devcluster",
        "osImage": "devcluster",
        "containerRuntimeVersion": "devcluster://1",
        "kubeletVersion": "v1.36.3-devcluster",
    }


def _architecture() -> str:
    """As Go names it, and with it Kubernetes."""
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())


def _lease(name: str) -> dict[str, Any]:
    spec = {"holderIdentity": name, "leaseDurationSeconds": LEASE_SECONDS, "renewTime": _now(micro=True)}
    return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name}, "spec": spec}


def _namespace(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def _now(*, micro: bool = False) -> str:
    now = dt.datetime.now(dt.UTC)
    return now.isoformat(timespec="microseconds" if micro else "seconds").replace("+00:00", "Z")
