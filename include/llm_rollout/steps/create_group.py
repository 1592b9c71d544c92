"""The LeaderWorkerSet of this revision exists, and a Service that does not select it yet."""

from __future__ import annotations

from dataclasses import dataclass

from llm_rollout import kinds, names
from llm_rollout.manifests.leader_worker_set import leader_worker_set
from llm_rollout.manifests.pod_monitor import pod_monitor
from llm_rollout.manifests.service import service
from llm_rollout.ports import Manifest, Ports
from llm_rollout.rollout import Rollout
from llm_rollout.steps import pod_state, traffic
from llm_rollout.verdict import Act, Done, Fail, Verdict, Wait


@dataclass(frozen=True)
class Seen:
    """What is there already."""

    lws: Manifest | None
    service: Manifest | None
    monitor: Manifest | None
    monitor_served: bool


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
    )


def decide(rollout: Rollout, seen: Seen, now: float) -> Verdict:  # noqa: ARG001 (the shape of every step)
    """Adopt what is as wanted, apply what is missing, refuse what is somebody else's."""
    for found in (seen.lws, seen.service, seen.monitor):
        if found is not None and not traffic.is_ours(found, rollout.spec):
            return _foreign(found, rollout)
    if seen.lws is not None and pod_state.is_going(seen.lws):
        return Wait(f"LeaderWorkerSet {rollout.planned.lws} of an earlier run is being deleted")
    missing = _missing(rollout, seen)
    if missing:
        what = ", ".join(f"{one['kind']} {one['metadata']['name']}" for one in missing)
        return Act(f"apply {what}", Apply(tuple(missing)))
    return _observed(rollout, seen.lws or {})


def act(plan: object, ports: Ports) -> None:
    """Apply; the same manifest twice changes nothing."""
    for manifest in plan.manifests if isinstance(plan, Apply) else ():
        ports.cluster.apply(manifest)


def _missing(rollout: Rollout, seen: Seen) -> list[Manifest]:
    """A Service that exists stays as it is: only the switch changes it."""
    wanted = leader_worker_set(rollout.spec, rollout.planned)
    missing = [] if _same(seen.lws, wanted) else [wanted]
    if seen.service is None:
        missing.append(service(rollout.spec, rollout.planned.stable_revision_id))
    if seen.monitor_served and not _same(seen.monitor, pod_monitor(rollout.spec)):
        missing.append(pod_monitor(rollout.spec))
    return missing


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
