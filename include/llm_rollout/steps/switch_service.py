"""New connections reach the new revision; open streams finish on the old one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from llm_rollout import record
from llm_rollout.errors import Transient
from llm_rollout.manifests.leader_worker_set import leader_worker_set
from llm_rollout.manifests.service import service
from llm_rollout.ports import Ports
from llm_rollout.record import Record, Revision
from llm_rollout.rollout import Rollout
from llm_rollout.steps import group_state, live_metrics, pod_state, traffic, traffic_shift
from llm_rollout.steps.group_state import GroupState
from llm_rollout.steps.traffic import Switch, Traffic
from llm_rollout.steps.traffic_shift import Shifting
from llm_rollout.verdict import Act, Done, Fail, Verdict, Wait


@dataclass(frozen=True)
class Seen:
    """Where clients go, whether the candidate can take them, and what the record says."""

    traffic: Traffic
    candidate: GroupState
    recorded: str | None
    """The revision_id that stands as current."""
    unanswered: str
    """What came instead of an answer through the Service; asked only once it selects the candidate."""
    load: dict[str, int] | None
    """The leaders' counters at this moment, None when they could not be read."""
    shifting: Shifting | None = None
    """Where requests move in steps before the switch."""


@dataclass(frozen=True)
class Note:
    """Write the switch down."""

    rollout: Rollout
    revision: Revision


def observe(rollout: Rollout, ports: Ports) -> Seen:
    """Read Service, endpoints, leaders and record; ask through the Service when it points at the candidate."""
    spec, plan = rollout.spec, rollout.planned
    now = traffic.observe(spec, ports)
    state = group_state.observe(ports, spec.namespace, spec.name, plan.revision_id, plan.lws)
    current = record.load(ports.cluster, spec.namespace, spec.name).current
    is_there = now.selected == plan.revision_id and not traffic.difference(now, state.leaders)
    return Seen(
        now,
        state,
        current.revision_id if current else None,
        traffic.unanswered(spec, ports) if is_there else "",
        _load(rollout, state, ports) if is_there else None,
        traffic_shift.observe(rollout, ports, state),
    )


def decide(rollout: Rollout, seen: Seen, now: float) -> Verdict:
    """Move in steps where that is asked for, switch from what the plan expects, note it, and prove it.

    Anything else that is selected is a person's doing.
    """
    plan, selected = rollout.planned, seen.traffic.selected
    if seen.traffic.service is not None and not traffic.is_ours(seen.traffic.service, rollout.spec):
        return Fail(
            f"Service {rollout.spec.service.name} has lost its label: it is somebody else's now",
            "find out who replaced it, or choose another service.name",
        )
    if selected == plan.revision_id:
        return _proved(rollout, seen, now)
    if selected not in (None, plan.stable_revision_id):
        return Fail(
            f"Service {rollout.spec.service.name} selects {selected}, the plan expects {plan.stable_revision_id}",
            "somebody switched it meanwhile: start a new rollout",
        )
    missing = group_state.not_serving(seen.candidate)
    if missing:
        return Fail(
            f"the candidate {plan.lws} does not serve any more: {missing}; nothing was switched",
            "clear await_cold_start and what follows it",
        )
    moving = traffic_shift.step(rollout, seen.shifting, now) if seen.shifting and selected else None
    if moving is not None:
        return moving
    switch = Switch(rollout.spec, seen.traffic.service, plan.revision_id, plan.fencing_token, now)
    return Act(f"Service {rollout.spec.service.name}: {selected} -> {plan.revision_id}", switch)


def act(plan: object, ports: Ports) -> None:
    """Move requests, switch the Service, or write into the record that it is switched."""
    traffic_shift.act(plan, ports)
    if isinstance(plan, Switch):
        traffic.switch(plan, ports)
    if isinstance(plan, Note):
        run, revision = plan.rollout, plan.revision

        def switched(found: Record) -> Record:
            return found.switched(run.run_id, revision)

        record.update(ports.cluster, run.spec.namespace, run.spec.name, switched)


def _proved(rollout: Rollout, seen: Seen, now: float) -> Verdict:
    plan = rollout.planned
    if seen.recorded != plan.revision_id:
        return Act(f"note {plan.revision_id} as current", Note(rollout, _revision(rollout)))
    back = traffic_shift.back(rollout, seen.shifting.route if seen.shifting else None, now)
    if back is not None:
        return back
    pending = traffic.difference(seen.traffic, seen.candidate.leaders) or seen.unanswered
    if pending:
        return Wait(pending)
    leaders = list(seen.traffic.endpoints)
    evidence: dict[str, Any] = {"endpoints": leaders, "from": plan.stable_revision_id, "to": plan.revision_id}
    return Done(
        f"Service {rollout.spec.service.name} sends clients to {', '.join(leaders)} and answers",
        {**evidence, "load": seen.load or {}, **traffic_shift.evidence(rollout, seen.shifting)},
    )


def _revision(rollout: Rollout) -> Revision:
    plan = rollout.planned
    manifests = (leader_worker_set(rollout.spec, plan), service(rollout.spec, plan.revision_id))
    return Revision(revision_id=plan.revision_id, commit=plan.commit, lws=plan.lws, manifests=manifests)


def _load(rollout: Rollout, state: GroupState, ports: Ports) -> dict[str, int] | None:
    """The counters from which ``watch_live`` counts; without them it counts from the leaders' start."""
    try:
        return live_metrics.read(rollout.spec, ports, map(pod_state.name, state.leaders)).as_json()
    except Transient:
        return None
