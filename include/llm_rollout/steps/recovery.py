"""What ``roll_back`` sees and what it writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llm_rollout import kinds, names, record
from llm_rollout.errors import Permanent, Transient
from llm_rollout.manifests.autoscaler import autoscaler
from llm_rollout.manifests.leader_worker_set import CONTAINER
from llm_rollout.ports import Manifest, Ports
from llm_rollout.record import Record, Revision
from llm_rollout.rollout import Rollout
from llm_rollout.spec import RolloutSpec
from llm_rollout.steps import pod_state, traffic, traffic_shift
from llm_rollout.steps.group_state import GroupState
from llm_rollout.steps.traffic import Switch, Traffic
from llm_rollout.verdict import Act

_KEPT_LINES = 2000


@dataclass(frozen=True)
class Goal:
    """Where traffic is to be."""

    revision_id: str | None
    """None: there was no revision before, nothing is to serve."""
    candidate: str | None
    """The revision to leave."""
    known: Revision | None
    """The goal's manifests, where the record has them."""
    token: int
    is_return: bool
    """A person asked for it; nothing has failed."""


@dataclass(frozen=True)
class Seen:
    """Everything of the model, as seen once."""

    goal: Goal
    record: Record
    traffic: Traffic
    target: GroupState
    doomed: tuple[Manifest, ...]
    """LeaderWorkerSets that are neither the goal nor what a third party made the Service select."""
    pods: tuple[Manifest, ...]
    """Their pods."""
    jobs: tuple[Manifest, ...]
    """Jobs that still run for the candidate."""
    scaler: Manifest | None
    unanswered: str
    route: Manifest | None = None
    """The HTTPRoute by which requests move in steps."""
    beside: Manifest | None = None
    """The candidate's own Service."""


@dataclass(frozen=True)
class Apply:
    """Manifests from the record."""

    manifests: tuple[Manifest, ...]


@dataclass(frozen=True)
class Note:
    """Write into the record what is current now."""

    rollout: Rollout
    goal: Goal


@dataclass(frozen=True)
class Remove:
    """Keep the logs of ``pods``, then delete groups, Jobs and the candidate's own Service."""

    rollout: Rollout
    groups: tuple[Manifest, ...]
    jobs: tuple[Manifest, ...]
    services: tuple[Manifest, ...]
    pods: tuple[Manifest, ...]


def act(plan: object, ports: Ports) -> None:
    """Carry one of the plans of this step out."""
    traffic_shift.act(plan, ports)
    if isinstance(plan, Switch):
        traffic.switch(plan, ports)
    if isinstance(plan, Note):
        _write_down(plan, ports)
    for manifest in plan.manifests if isinstance(plan, Apply) else ():
        ports.cluster.apply(manifest)
    if isinstance(plan, Remove):
        _keep_logs(plan, ports)
        for kind, objects in (
            (kinds.LEADER_WORKER_SET, plan.groups),
            (kinds.JOB, plan.jobs),
            (kinds.SERVICE, plan.services),
        ):
            for metadata in (one["metadata"] for one in objects):
                ports.cluster.delete(kind, metadata["namespace"], metadata["name"], metadata["uid"])


def scaler(spec: RolloutSpec, seen: Seen) -> Act | None:
    """Point an autoscaler that follows the candidate at the goal again."""
    found, goal = seen.scaler, seen.goal
    if spec.autoscaling is None or found is None or goal.revision_id is None or not traffic.is_ours(found, spec):
        return None
    lws = names.lws_name(spec.name, goal.revision_id)
    follows = found.get("spec", {}).get("scaleTargetRef", {}).get("name")
    return None if follows == lws else Act(f"point the autoscaler at {lws}", Apply((autoscaler(spec, lws),)))


def named(manifests: Sequence[Manifest]) -> str:
    """Their names."""
    return ", ".join(map(pod_state.name, manifests))


def _write_down(plan: Note, ports: Ports) -> None:
    run, goal = plan.rollout, plan.goal

    def changed(found: Record) -> Record:
        if goal.is_return and goal.known is not None:
            return found.switched(run.run_id, goal.known)
        return found.switched_back(run.run_id, goal.candidate or "")

    record.update(ports.cluster, run.spec.namespace, run.spec.name, changed)


def _keep_logs(plan: Remove, ports: Ports) -> None:
    """Evidence must not stand in the way of the roll back: what cannot be read or stored is left."""
    for pod in plan.pods:
        name = pod_state.name(pod)
        for previous in (True, False):
            life = ".previous" if previous else ""
            try:
                text = ports.logs.tail(plan.rollout.spec.namespace, name, CONTAINER, _KEPT_LINES, previous=previous)
                if text:
                    ports.evidence.put(plan.rollout.evidence_path(f"roll_back/{name}{life}.log"), text)
            except (Transient, Permanent):
                continue
