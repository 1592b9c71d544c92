"""The LeaderWorkerSet of this revision exists, and a Service that does not select it yet."""

from __future__ import annotations

from dataclasses import dataclass

from llm_rollout import kinds, names
from llm_rollout.errors import Permanent
from llm_rollout.manifests.leader_worker_set import (
    is_starting,
    leader_worker_set,
    restart_limit,
    starting,
    with_restart_limit,
)
from llm_rollout.manifests.pod_monitor import pod_monitor
from llm_rollout.manifests.service import service
from llm_rollout.ports import Manifest, Ports
from llm_rollout.rollout import Rollout
from llm_rollout.steps import pod_state, restart_ledger, traffic
from llm_rollout.verdict import Act, Done, Fail, Verdict, Wait

_CRD = f"{kinds.LEADER_WORKER_SET.plural}.{kinds.LEADER_WORKER_SET.group}"
_VERSION = kinds.LEADER_WORKER_SET.api_version.rpartition("/")[2]


@dataclass(frozen=True)
class Seen:
    """What is there already."""

    lws: Manifest | None
    service: Manifest | None
    monitor: Manifest | None
    monitor_served: bool
    bounds_restarts: bool = False
    """Whether the installed LeaderWorkerSet can bound recreations itself (v1 on)."""


@dataclass(frozen=True)
class Remove:
    """A LeaderWorkerSet that was given up, to be made anew."""

    lws: Manifest


@dataclass(frozen=True)
class Apply:
    """Manifests to bring about, in order."""

    manifests: tuple[Manifest, ...]


def observe(rollout: Rollout, ports: Ports) -> Seen:
    """Read the objects by their names."""
    spec, get = rollout.spec, ports.cluster.get
    served = spec.pod_monitor and ports.access.serves(kinds.POD_MONITOR)
    return Seen(
        get(kinds.LEADER_WORKER_SET, spec.namespace, rollout.planned.lws),
        get(kinds.SERVICE, spec.namespace, spec.service.name),
        get(kinds.POD_MONITOR, spec.namespace, spec.name) if served else None,
        served,
        _bounds_restarts(ports),
    )


def decide(rollout: Rollout, seen: Seen, now: float) -> Verdict:  # noqa: ARG001 (the shape of every step)
    """Adopt what is as wanted, apply what is missing, refuse what is somebody else's."""
    for found in (seen.lws, seen.service, seen.monitor):
        if found is not None and not traffic.is_ours(found, rollout.spec):
            return _foreign(found, rollout)
    if seen.lws is not None and pod_state.is_going(seen.lws):
        return Wait(f"LeaderWorkerSet {rollout.planned.lws} of an earlier run is being deleted")
    if seen.lws is not None and restart_ledger.read(seen.lws).spent is not None:
        return Act(f"delete LeaderWorkerSet {rollout.planned.lws}, which was given up", Remove(seen.lws))
    missing = _missing(rollout, seen)
    if missing:
        what = ", ".join(f"{one['kind']} {one['metadata']['name']}" for one in missing)
        return Act(f"apply {what}", Apply(tuple(missing)))
    return _observed(rollout, seen.lws or {})


def act(plan: object, ports: Ports) -> None:
    """Apply; the same manifest twice changes nothing."""
    if isinstance(plan, Remove):
        metadata = plan.lws["metadata"]
        ports.cluster.delete(kinds.LEADER_WORKER_SET, metadata["namespace"], metadata["name"], metadata["uid"])
    for manifest in plan.manifests if isinstance(plan, Apply) else ():
        ports.cluster.apply(manifest)


def _missing(rollout: Rollout, seen: Seen) -> list[Manifest]:
    """A Service that exists stays as it is: only the switch changes it."""
    missing = _groups(rollout, seen)
    if seen.service is None:
        missing.append(service(rollout.spec, rollout.planned.stable_revision_id))
    if seen.monitor_served and not _same(seen.monitor, pod_monitor(rollout.spec)):
        missing.append(pod_monitor(rollout.spec))
    return missing


def _groups(rollout: Rollout, seen: Seen) -> list[Manifest]:
    """A candidate that pauses goes on by itself, under the plan of then; without groups for another reason it does not.

    To start it here would cut its pause short, and could do so on nodes whose fabric nobody has validated.
    """
    wanted = leader_worker_set(rollout.spec, rollout.planned)
    if seen.lws is None:
        limit = rollout.spec.timing.max_recreations if seen.bounds_restarts else None
        return [starting(with_restart_limit(wanted, limit))]
    pauses = restart_ledger.read(seen.lws).resume_at is not None
    if pauses or (_same(seen.lws, wanted) and seen.lws.get("spec", {}).get("replicas") != 0):
        return []
    whole = with_restart_limit(wanted, restart_limit(seen.lws))
    return [starting(whole) if is_starting(seen.lws) else whole]


def _bounds_restarts(ports: Ports) -> bool:
    """Read from the schema of the installed API; where it may not be read, the rollout's own budget has to do."""
    try:
        found = ports.cluster.get(kinds.CUSTOM_RESOURCE_DEFINITION, "", _CRD) or {}
    except Permanent:
        return False
    served = [one for one in found.get("spec", {}).get("versions", []) if one["name"] == _VERSION]
    schema = served[0].get("schema", {}).get("openAPIV3Schema", {}) if served else {}
    for field in ("spec", "leaderWorkerTemplate", "maxGroupRestarts"):
        schema = schema.get("properties", {}).get(field, {})
    return bool(schema)


def _same(found: Manifest | None, wanted: Manifest) -> bool:
    stamp = wanted["metadata"]["annotations"][names.CONTENT_ANNOTATION]
    return found is not None and found["metadata"].get("annotations", {}).get(names.CONTENT_ANNOTATION) == stamp


def _observed(rollout: Rollout, lws: Manifest) -> Done | Wait:
    generation, seen = lws["metadata"].get("generation", 0), lws.get("status", {}).get("observedGeneration", 0)
    if seen < generation:
        return Wait(
            f"the controller has seen generation {seen} of {generation} of LeaderWorkerSet {rollout.planned.lws}"
        )
    nodes = list(rollout.planned.nodes)
    return Done(
        f"LeaderWorkerSet {rollout.planned.lws} exists on {', '.join(nodes)}",
        {"lws": rollout.planned.lws, "nodes": nodes},
    )


def _foreign(found: Manifest, rollout: Rollout) -> Fail:
    name = f"{found['kind']} {found['metadata']['namespace']}/{found['metadata']['name']}"
    return Fail(
        f"{name} exists without the label {names.MODEL_LABEL}={rollout.spec.name}: it is somebody else's",
        "rename it, or choose another name or service.name in the spec",
    )
