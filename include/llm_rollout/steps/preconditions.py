"""What has to be true before a rollout may begin; each thing that is not is a cause with its remedy. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from llm_rollout import names
from llm_rollout.ports import Manifest
from llm_rollout.spec import RolloutSpec
from llm_rollout.steps import capacity, traffic, traffic_shift
from llm_rollout.steps.capacity import Room

_QUOTA_KEY = f"requests.{capacity.GPU}"


@dataclass(frozen=True)
class Problem:
    """Why the rollout cannot begin, and what to do about it."""

    cause: str
    remedy: str


@dataclass(frozen=True)
class Ground:
    """What the cluster offers a rollout, as seen once."""

    denied: tuple[str, ...] = ()
    """Permissions that are missing."""
    lws_served: bool = True
    claim: Manifest | None = None
    quotas: tuple[Manifest, ...] = ()
    rooms: tuple[Room, ...] = ()
    """What the nodes have left; what the candidate itself holds counts as free."""
    groups: tuple[Manifest, ...] = ()
    """All LeaderWorkerSets of the namespace."""
    service: Manifest | None = None
    route: Manifest | None = None
    """The HTTPRoute that the spec names."""


def of_identity(ground: Ground, spec: RolloutSpec) -> Iterator[Problem]:
    """Whether this identity may do what the steps do, and whether the API server knows LeaderWorkerSets."""
    if ground.denied:
        yield Problem(
            f"this identity may not: {'; '.join(ground.denied)}",
            f"apply deploy/ (RBAC) for namespace {spec.namespace}",
        )
    if not ground.lws_served:
        yield Problem(
            "the API server does not serve leaderworkerset.x-k8s.io/v1 LeaderWorkerSet",
            "install the LeaderWorkerSet controller, 0.9 or newer",
        )


def of_route(ground: Ground, spec: RolloutSpec) -> Iterator[Problem]:
    """Whether requests can move by the HTTPRoute that the spec names; its Service may still be to come."""
    found = traffic_shift.problem(spec, spec.shift, ground.route) if spec.shift else None
    if found is not None:
        yield Problem(found.cause, found.remedy)


def of_claim(ground: Ground, spec: RolloutSpec, weights_bytes: int) -> Iterator[Problem]:
    """Whether the model store is there, bound, shared and large enough for these weights alone."""
    claim, where = ground.claim, f"PersistentVolumeClaim {spec.namespace}/{spec.store.claim}"
    if claim is None:
        yield Problem(f"{where} does not exist", "create it (ReadWriteMany), or correct store.claim")
        return
    phase = claim.get("status", {}).get("phase")
    if phase != "Bound":
        yield Problem(f"{where} is {phase}, not Bound", "see its events; a ReadWriteMany storage class is needed")
    if "ReadWriteMany" not in claim.get("spec", {}).get("accessModes", []):
        yield Problem(f"{where} is not ReadWriteMany: only one node could mount it", "create it with ReadWriteMany")
    capacity_text = claim.get("status", {}).get("capacity", {}).get("storage")
    if capacity_text and capacity.quantity(capacity_text) < weights_bytes:
        yield Problem(
            f"{where} holds {capacity_text}, the weights alone have {weights_bytes} bytes", "enlarge it, or use another"
        )


def of_names(ground: Ground, spec: RolloutSpec, lws: str) -> Iterator[Problem]:
    """Whether the names are free or ours. A Service named as a LeaderWorkerSet takes its headless Service's place."""
    if ground.service is not None and not traffic.is_ours(ground.service, spec):
        yield Problem(
            f"Service {spec.namespace}/{spec.service.name} exists without the label {names.MODEL_LABEL}={spec.name}",
            "choose another service.name, or delete that Service if nobody needs it",
        )
    for group in ground.groups:
        name = group["metadata"]["name"]
        if name == spec.service.name:
            yield Problem(f"LeaderWorkerSet {name} has the name of the Service", "choose another service.name")
        if name == lws and not traffic.is_ours(group, spec):
            yield Problem(
                f"LeaderWorkerSet {spec.namespace}/{name} exists without the label {names.MODEL_LABEL}={spec.name}",
                "rename it, or choose another name in the spec",
            )


def of_capacity(ground: Ground, spec: RolloutSpec, nodes: Sequence[str]) -> Iterator[Problem]:
    """Whether enough whole nodes are free, and whether a quota allows so many GPUs."""
    need = capacity.need_of(spec.server)
    wanted = spec.groups * spec.server.nodes_per_group
    if len(nodes) < wanted:
        yield _too_few(ground.rooms, need, wanted, len(nodes))
    gpus = wanted * spec.server.gpus_per_node
    for quota in ground.quotas:
        status = quota.get("status", {})
        hard = status.get("hard", {}).get(_QUOTA_KEY)
        used = status.get("used", {}).get(_QUOTA_KEY, 0)
        if hard is not None and capacity.quantity(hard) - capacity.quantity(used) < gpus:
            yield Problem(
                f"ResourceQuota {quota['metadata']['name']} allows {hard} of {_QUOTA_KEY}, {used} are used, "
                f"{gpus} more are needed",
                "raise the quota for the time of the rollout: both revisions run side by side",
            )


def _too_few(rooms: Sequence[Room], need: Mapping[str, Decimal], wanted: int, found: int) -> Problem:
    per_node = int(need[capacity.GPU])
    lacking = "; ".join(_described(room, need) for room in rooms)
    return Problem(
        f"{wanted} nodes with {per_node} free GPUs each are needed beside what serves now, {found} are free: "
        f"{(wanted - found) * per_node} GPUs are missing on {wanted - found} nodes ({lacking or 'there are no nodes'})",
        "free nodes, add nodes, or ask for fewer groups; both revisions run side by side until the switch",
    )


def _described(room: Room, need: Mapping[str, Decimal]) -> str:
    """GPUs tell most; where they suffice, what else is missing."""
    lacks = room.lacks(need)
    has_gpus = not room.closed and room.free.get(capacity.GPU, Decimal(0)) >= need[capacity.GPU]
    return f"{room.describe()}, but {', '.join(lacks)}" if has_gpus and lacks else room.describe()
