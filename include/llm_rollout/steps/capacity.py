"""Which whole nodes are free, from what nodes offer and what pods ask for. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from llm_rollout import names
from llm_rollout.ports import Manifest
from llm_rollout.spec import RolloutSpec, Server

GPU = "nvidia.com/gpu"

_SUFFIXES = {
    "m": Decimal("0.001"),
    **{letter: Decimal(1000) ** power for power, letter in enumerate(("", "k", "M", "G", "T", "P", "E"))},
    **{f"{letter}i": Decimal(1024) ** (power + 1) for power, letter in enumerate(("K", "M", "G", "T", "P", "E"))},
}
_QUANTITY = re.compile(r"([+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?)([a-zA-Z]*)$")


@dataclass(frozen=True)
class Room:
    """What one node has left. ``closed`` says why nothing may be placed there, empty when it may."""

    node: str
    free: Mapping[str, Decimal]
    offered_gpus: int
    closed: str
    tenants: tuple[str, ...]
    """The pods that hold its GPUs."""

    def lacks(self, need: Mapping[str, Decimal]) -> list[str]:
        """What is missing for one pod."""
        return [
            f"{amount} of {name} needed, {self.free.get(name, 0)} free"
            for name, amount in need.items()
            if self.free.get(name, Decimal(0)) < amount
        ]

    def describe(self) -> str:
        """One line for a person."""
        used = f", held by {', '.join(self.tenants)}" if self.tenants else ""
        return f"{self.node}: {self.closed or f'{self.free.get(GPU, 0)} of {self.offered_gpus} GPUs free{used}'}"


def quantity(text: object) -> Decimal:
    """A Kubernetes quantity such as ``500m``, ``200Gi`` or ``8``.

    Raises:
        ValueError: It is none.
    """
    match = _QUANTITY.match(str(text))
    if match is None or match[2] not in _SUFFIXES:
        raise ValueError(f"{text!r} is not a quantity")
    return Decimal(match[1]) * _SUFFIXES[match[2]]


def need_of(server: Server) -> dict[str, Decimal]:
    """What one pod of a group takes of its node."""
    need = {
        GPU: Decimal(server.gpus_per_node),
        "cpu": quantity(server.resources.cpu),
        "memory": quantity(server.resources.memory),
    }
    return {**need, server.network.rdma_resource: Decimal(1)} if server.network.rdma_resource else need


def rooms(nodes: Iterable[Manifest], pods: Iterable[Manifest], resources: Iterable[str]) -> list[Room]:
    """What is left of the named resources on every node, by node name. Ended pods hold nothing."""
    wanted = tuple(resources)
    tenants: dict[str, list[Manifest]] = {}
    for pod in pods:
        if pod.get("status", {}).get("phase") not in ("Succeeded", "Failed"):
            tenants.setdefault(pod.get("spec", {}).get("nodeName", ""), []).append(pod)
    return sorted((_room(node, tenants.get(_name(node), []), wanted) for node in nodes), key=lambda room: room.node)


def gives_way(pod: Manifest, spec: RolloutSpec, revision_id: str) -> bool:
    """The candidate's own pods of an earlier try, and our Jobs, which end before the groups start."""
    labels = pod["metadata"].get("labels", {})
    ours = pod["metadata"]["namespace"] == spec.namespace and labels.get(names.MODEL_LABEL) == spec.name
    return ours and (labels.get(names.REVISION_LABEL) == revision_id or names.STEP_LABEL in labels)


def without(found: Iterable[Room], excluded: Mapping[str, str]) -> list[Room]:
    """The same rooms with the excluded nodes closed, for the reason that stands with each."""
    return [
        replace(room, closed=f"left out: {excluded[room.node]}") if room.node in excluded else room for room in found
    ]


def choose(found: Sequence[Room], need: Mapping[str, Decimal], count: int, preferred: Sequence[str]) -> list[str]:
    """The first ``count`` nodes by name that can take a pod, preferred ones first; fewer when there are fewer."""
    fit = [room.node for room in found if not room.closed and not room.lacks(need)]
    chosen = sorted(fit, key=lambda node: (node not in preferred, _natural(node)))[:count]
    return sorted(chosen, key=_natural)


def _room(node: Manifest, tenants: Sequence[Manifest], resources: Sequence[str]) -> Room:
    offered = node.get("status", {}).get("allocatable", {})
    free = {
        name: quantity(offered.get(name, 0)) - sum((_asks(pod, name) for pod in tenants), Decimal(0))
        for name in resources
    }
    holders = tuple(_name(pod) for pod in tenants if _asks(pod, GPU))
    return Room(_name(node), free, int(quantity(offered.get(GPU, 0))), _closed(node), holders)


def _closed(node: Manifest) -> str:
    conditions = node.get("status", {}).get("conditions") or []
    ready = next((one["status"] for one in conditions if one["type"] == "Ready"), "Unknown")
    if ready != "True":
        return f"not ready (Ready is {ready})"
    if node.get("spec", {}).get("unschedulable"):
        return "cordoned"
    taints = [taint for taint in node.get("spec", {}).get("taints") or [] if _repels(taint)]
    return f"tainted {', '.join(taint['key'] for taint in taints)}" if taints else ""


def _repels(taint: Mapping[str, str]) -> bool:
    """Our pods tolerate the usual taint of GPU nodes, with NoSchedule only."""
    tolerated = taint["key"] == GPU and taint["effect"] == "NoSchedule"
    return not tolerated and taint["effect"] != "PreferNoSchedule"


def _asks(pod: Manifest, name: str) -> Decimal:
    """The sum of the containers, or the greatest init container."""
    spec = pod.get("spec", {})
    running = sum((_of(container, name) for container in spec.get("containers", [])), Decimal(0))
    starting = [_of(container, name) for container in spec.get("initContainers") or []]
    return max([running, *starting])


def _of(container: Manifest, name: str) -> Decimal:
    resources = container.get("resources", {})
    asked = resources.get("requests", {}).get(name, resources.get("limits", {}).get(name, 0))
    return quantity(asked)


def _name(manifest: Manifest) -> str:
    return str(manifest["metadata"]["name"])


def _natural(name: str) -> list[tuple[int, str]]:
    """node-10 after node-9."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]
