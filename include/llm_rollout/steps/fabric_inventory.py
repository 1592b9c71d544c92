"""What the API server tells about a fabric before anything is measured on it.

A pod that cannot start says "could not run" after minutes; what keeps it from starting is mostly known beforehand.
What this identity may not read is told as unread, never taken for wrong.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from llm_rollout import kinds, names
from llm_rollout.ports import Kind, Manifest, Ports
from llm_rollout.spec import RolloutSpec
from llm_rollout.steps import address_pools, capacity, jobs, measuring, pod_state
from llm_rollout.steps.capacity import Room
from llm_rollout.steps.preconditions import Problem


@dataclass(frozen=True)
class Ground:
    """What the cluster offers a measurement, as seen once."""

    rooms: tuple[Room, ...]
    """What the nodes have left; what the candidate and our own Jobs hold counts as free."""
    nodes: tuple[Manifest, ...] = ()
    attachments_served: bool = True
    pools: tuple[Manifest, ...] | None = ()
    """Whereabouts' address pools; None where they may not be read."""
    probes: tuple[Manifest, ...] = ()
    """Pods of all namespaces that measure a fabric now."""
    jobs: tuple[Manifest, ...] = ()
    """The model's Jobs that measure or have measured."""


def observe(spec: RolloutSpec, ports: Ports, revision_id: str) -> Ground:
    """Read nodes, pods, attachments' kind, pools and the model's Jobs."""
    cluster, wanted = ports.cluster, bool(spec.server.network.attachments)
    nodes, pods = cluster.list(kinds.NODE, ""), cluster.list(kinds.POD, "")
    others = [pod for pod in pods if not capacity.gives_way(pod, spec, revision_id)]
    ours = {names.MODEL_LABEL: spec.name, names.STEP_LABEL: measuring.STEP}
    return Ground(
        rooms=tuple(capacity.rooms(nodes, others, capacity.need_of(spec.server))),
        nodes=tuple(nodes),
        attachments_served=not wanted or ports.access.serves(kinds.NETWORK_ATTACHMENT),
        pools=_pools(ports) if wanted else (),
        probes=tuple(pod for pod in pods if _measures_now(pod)),
        jobs=tuple(cluster.list(kinds.JOB, spec.namespace, ours)),
    )


def attached(spec: RolloutSpec, ports: Ports) -> tuple[Manifest, ...]:
    """The network attachments that the pods ask for, as far as they are there and may be read."""
    wanted = [place(text, spec.namespace) for text in spec.server.network.attachments]
    found = {
        (namespace, one["metadata"]["name"]): one
        for namespace in sorted({namespace for namespace, _ in wanted})
        if namespace == spec.namespace or ports.access.may("list", kinds.NETWORK_ATTACHMENT, namespace)
        for one in ports.cluster.list(kinds.NETWORK_ATTACHMENT, namespace)
    }
    return tuple(found[one] for one in dict.fromkeys(wanted) if one in found)


def place(attachment: str, namespace: str) -> tuple[str, str]:
    """Namespace and name of what stands in ``server.network.attachments``: ``[NAMESPACE/]NAME[@INTERFACE]``."""
    before, slash, name = attachment.partition("@")[0].rpartition("/")
    return (before if slash else namespace), name


def problems(
    spec: RolloutSpec,
    nodes: Sequence[str],
    ground: Ground,
    found: Sequence[Manifest],
    need: Mapping[str, Decimal] | None = None,
) -> Iterator[Problem]:
    """Everything that would keep a measurement of ``nodes`` from running, or the groups after it.

    ``need`` is what each node has to have free; what a pod of a group takes, unless it is given.
    """
    yield from _of_attachments(spec, ground, found)
    yield from _of_addresses(spec, len(nodes), ground, found)
    yield from _of_nodes(nodes, ground, capacity.need_of(spec.server) if need is None else need)


def unread(spec: RolloutSpec, ground: Ground, found: Sequence[Manifest]) -> list[str]:
    """What could not be told, for the evidence."""
    told = [] if ground.pools is not None else [f"{kinds.IP_POOL.plural}: this identity may not list them"]
    known = {_place_of(one) for one in found}
    foreign = [one for one in _wanted(spec) if one[0] != spec.namespace and one not in known]
    told += [f"network attachment {'/'.join(one)}: not there, or this identity may not list them" for one in foreign]
    return told + [text for one in found for text in _unclear(one)]


def busy(nodes: Collection[str], ground: Ground, job_name: str) -> list[str]:
    """Pods of other measurements on these nodes: two at a time would both measure too little."""
    return [
        f"{pod['metadata']['namespace']}/{pod_state.name(pod)} on {pod_state.node(pod)}"
        for pod in ground.probes
        if pod_state.node(pod) in nodes and pod["metadata"]["labels"].get(jobs.JOB_NAME_LABEL) != job_name
    ]


def left_over(ground: Ground, run_id: str, job_name: str) -> tuple[Manifest, ...]:
    """Finished Jobs of earlier runs: what they found is noted, and their names and addresses are of use to others."""
    return tuple(
        job
        for job in ground.jobs
        if measuring.has_ended(job) and jobs.run_of(job) != run_id and job["metadata"]["name"] != job_name
        if not pod_state.is_going(job)
    )


def _pools(ports: Ports) -> tuple[Manifest, ...] | None:
    kind: Kind = kinds.IP_POOL
    if not ports.access.serves(kind):
        return ()
    return tuple(ports.cluster.list(kind, "")) if ports.access.may("list", kind, "") else None


def _measures_now(pod: Manifest) -> bool:
    ended = pod.get("status", {}).get("phase") in ("Succeeded", "Failed")
    return not ended and pod["metadata"].get("labels", {}).get(names.STEP_LABEL) == measuring.STEP


def _of_attachments(spec: RolloutSpec, ground: Ground, found: Sequence[Manifest]) -> Iterator[Problem]:
    if not ground.attachments_served:
        named = ", ".join(spec.server.network.attachments)
        yield Problem(
            f"server.network.attachments {named}: the API server serves no {kinds.NETWORK_ATTACHMENT.api_version} "
            f"{kinds.NETWORK_ATTACHMENT.kind}",
            "install Multus with its CRD, or remove server.network.attachments",
        )
        return
    known = {_place_of(one) for one in found}
    for namespace, name in _wanted(spec):
        if (namespace, name) not in known and namespace == spec.namespace:
            yield Problem(
                f"server.network.attachments {name}: no NetworkAttachmentDefinition {name} in namespace {namespace}",
                f"create it in namespace {namespace}, or write NAMESPACE/{name} where it is elsewhere",
            )


def _of_addresses(spec: RolloutSpec, pods: int, ground: Ground, found: Sequence[Manifest]) -> Iterator[Problem]:
    """Each pod takes one address of each attachment."""
    by_place = {_place_of(one): one for one in found}
    needed: dict[address_pools.Pool, list[str]] = {}
    for text in spec.server.network.attachments:
        attachment = by_place.get(place(text, spec.namespace))
        if attachment is not None and not _unclear(attachment):
            for pool in address_pools.pools_of(attachment):
                needed.setdefault(pool, []).append(text)
    for pool, users in needed.items():
        free = pool.free(ground.pools or ())
        if ground.pools is not None and free < pods * len(users):
            yield Problem(
                f"server.network.attachments {', '.join(users)}: address pool {pool.name} has {free} addresses free, "
                f"{pods} pods need {pods * len(users)}",
                f"widen the range of {', '.join(users)}, or let whereabouts' ip-reconciler free what dead pods hold",
            )


def _of_nodes(nodes: Sequence[str], ground: Ground, need: Mapping[str, Decimal]) -> Iterator[Problem]:
    rooms = {room.node: room for room in ground.rooms}
    remedy = "put it right, or choose other nodes: in a rollout, clear plan_rollout and what follows it"
    for node in nodes:
        room = rooms.get(node)
        if room is None or room.closed:
            yield Problem(
                f"node {node}: {room.closed if room else 'does not exist any more'}", f"node {node}: {remedy}"
            )
            continue
        lacking = room.lacks(need)
        if lacking:
            held = f", GPUs are held by {', '.join(room.tenants)}" if room.tenants else ""
            yield Problem(f"node {node}: {', '.join(lacking)}{held}", f"node {node}: {remedy}")


def _wanted(spec: RolloutSpec) -> list[tuple[str, str]]:
    return list(dict.fromkeys(place(text, spec.namespace) for text in spec.server.network.attachments))


def _place_of(attachment: Manifest) -> tuple[str, str]:
    return attachment["metadata"]["namespace"], attachment["metadata"]["name"]


def _unclear(attachment: Manifest) -> list[str]:
    try:
        list(address_pools.pools_of(attachment))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return [f"addresses of network attachment {'/'.join(_place_of(attachment))}: {error}"]
    return []
