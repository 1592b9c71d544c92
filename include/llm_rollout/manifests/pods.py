"""What the pods of a model and the pods that measure its fabric have in common.

The fabric is measured through the same attachments, device, capability and NCCL settings that the model will use:
a probe with other settings would validate another network.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llm_rollout.spec import Network, RolloutSpec

NETWORKS_ANNOTATION = "k8s.v1.cni.cncf.io/networks"
HOSTNAME_LABEL = "kubernetes.io/hostname"
STORE_VOLUME = "model-store"

TOLERATIONS = [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
"""GPU nodes are usually tainted with this key. Jobs tolerate it too: a cluster may consist of GPU nodes only."""


def model_path(spec: RolloutSpec, commit: str) -> str:
    """Where a commit's files lie inside pods that mount the store."""
    return f"{spec.store.mount_path.rstrip('/')}/models/{spec.model.repo.replace('/', '--')}/{commit}"


def env(variables: dict[str, str]) -> list[dict[str, Any]]:
    """Container environment of plain values."""
    return [{"name": name, "value": value} for name, value in variables.items()]


def env_from_field(name: str, field_path: str) -> dict[str, Any]:
    """One variable of the container environment from the downward API."""
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": field_path}}}


def nccl_settings(network: Network) -> dict[str, str]:
    """NCCL's settings; what the spec's ``nccl_env`` says wins.

    Names carry a leading ``=``: without it NCCL takes them as prefixes, and ``mlx5_1`` also matches ``mlx5_10``.
    INFO with INIT and NET makes the log name the transport; a fall back to sockets is silent otherwise.
    """
    if network.rdma_resource is None:
        transport = {"NCCL_IB_DISABLE": "1"}
    else:
        transport = {"NCCL_IB_HCA": "=" + ",".join(network.hcas)}
    common = {
        "NCCL_SOCKET_IFNAME": f"={network.socket_interface}",
        "NCCL_DEBUG": "INFO",
        "NCCL_DEBUG_SUBSYS": "INIT,NET",
    }
    return {**transport, **common, **network.nccl_env}


def network_annotations(network: Network) -> dict[str, str]:
    """Pod annotations that attach one interface for each rail."""
    return {NETWORKS_ANNOTATION: ",".join(network.attachments)} if network.attachments else {}


def network_limits(network: Network) -> dict[str, int]:
    """The RDMA device as a resource limit."""
    return {network.rdma_resource: 1} if network.rdma_resource else {}


def network_security(network: Network) -> dict[str, Any]:
    """RDMA registers (pins) memory; without IPC_LOCK that fails with "Cannot allocate memory"."""
    return {"securityContext": {"capabilities": {"add": ["IPC_LOCK"]}}} if network.rdma_resource else {}


def on_nodes(nodes: Sequence[str]) -> dict[str, Any]:
    """Node affinity: these nodes and no others."""
    return {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [_hostname_in(nodes)]}}


def rather_on_nodes(nodes: Sequence[str]) -> dict[str, Any]:
    """Node affinity: these nodes while they have room."""
    return {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "preference": _hostname_in(nodes)}]}


def store_volume(spec: RolloutSpec) -> dict[str, Any]:
    """The claim that holds the weights, as a pod volume."""
    return {"name": STORE_VOLUME, "persistentVolumeClaim": {"claimName": spec.store.claim}}


def store_mount(spec: RolloutSpec, *, read_only: bool) -> dict[str, Any]:
    """Where a container sees the store."""
    mount = {"name": STORE_VOLUME, "mountPath": spec.store.mount_path}
    return {**mount, "readOnly": True} if read_only else mount


def _hostname_in(nodes: Sequence[str]) -> dict[str, Any]:
    return {"matchExpressions": [{"key": HOSTNAME_LABEL, "operator": "In", "values": sorted(nodes)}]}
