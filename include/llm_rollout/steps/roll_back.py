"""Traffic is on the last good revision, the candidate is gone, the evidence is kept.

After a failure the goal is what served when the plan was made. In a return that a person asks for
(``rollout.PREVIOUS``, a run without a plan) it is what stood as previous in the record when the run began;
its groups are gone by then and are made again from the manifests in the record.
"""

from __future__ import annotations

from llm_rollout import kinds, names, record
from llm_rollout.manifests import http_route
from llm_rollout.ports import Manifest, Ports
from llm_rollout.record import Record, RolloutResult
from llm_rollout.rollout import Rollout
from llm_rollout.spec import RolloutSpec
from llm_rollout.steps import group_state, pod_state, recovery, traffic, traffic_shift
from llm_rollout.steps.group_state import GroupState
from llm_rollout.steps.recovery import Goal, Seen
from llm_rollout.steps.traffic import Switch
from llm_rollout.verdict import Act, Done, Fail, Verdict, Wait

_UNFINISHED = ("validate_rdma", "evaluate_canary")
"""Steps whose Jobs are of no use without a candidate. Weights that are being staged will be of use."""


def observe(rollout: Rollout, ports: Ports) -> Seen | None:
    """Read everything of the model; None when this run has nothing that could be rolled back."""
    spec = rollout.spec
    found = record.load(ports.cluster, spec.namespace, spec.name)
    goal = _goal(rollout, found)
    if goal is None:
        return None
    mine = {names.MODEL_LABEL: spec.name}
    groups = ports.cluster.list(kinds.LEADER_WORKER_SET, spec.namespace, mine)
    pods = [pod for pod in ports.cluster.list(kinds.POD, spec.namespace, mine) if _has_role(pod)]
    now = traffic.observe(spec, ports)
    target = GroupState(None)
    if goal.revision_id is not None:
        lws = names.lws_name(spec.name, goal.revision_id)
        target = group_state.observe(ports, spec.namespace, spec.name, goal.revision_id, lws)
    is_back = goal.revision_id is not None and now.selected == goal.revision_id
    return Seen(
        goal=goal,
        record=found,
        traffic=now,
        target=target,
        doomed=tuple(one for one in groups if _revision(one) not in (goal.revision_id, _spared(goal, now.selected))),
        pods=tuple(pod for pod in pods if _revision(pod) not in (goal.revision_id, _spared(goal, now.selected))),
        jobs=tuple(job for job in ports.cluster.list(kinds.JOB, spec.namespace, mine) if _is_pointless(job)),
        scaler=ports.cluster.get(kinds.HORIZONTAL_POD_AUTOSCALER, spec.namespace, spec.name),
        unanswered=traffic.unanswered(spec, ports) if is_back and not traffic.difference(now, target.leaders) else "",
        route=ports.cluster.get(kinds.HTTP_ROUTE, spec.namespace, spec.shift.http_route) if spec.shift else None,
        beside=_ours(
            ports.cluster.get(kinds.SERVICE, spec.namespace, names.candidate_service_name(spec.service.name)), spec
        ),
    )


def decide(rollout: Rollout, seen: Seen | None, now: float) -> Verdict:
    """Traffic first, then the record, then the candidate, and proof at the end."""
    if seen is None:
        return Done("nothing was planned, nothing to roll back")
    if rollout.plan is not None and rollout.plan.already_live:
        return Done("the target was live before this run: nothing to roll back")
    entry = seen.record.run(rollout.run_id)
    if entry is not None and rollout.plan is not None and _is_proven(entry, seen.traffic.selected):
        return Done(
            f"{seen.traffic.selected} serves and passed its bake, only the tidying up failed: traffic stays on it",
            {"serves": seen.traffic.selected},
        )
    if seen.goal.is_return and seen.goal.revision_id is None:
        return Fail(
            f"the record of {rollout.spec.name} has no previous revision to return to",
            f"start a rollout of the revision that you want: trigger roll_out__{rollout.spec.name.replace('-', '_')}",
        )
    return (
        _redirect(rollout, seen, now)
        or traffic_shift.back(rollout, seen.route, now)
        or _note(rollout, seen)
        or _clear_away(rollout, seen, now)
        or _prove(seen)
    )


act = recovery.act


def _goal(rollout: Rollout, found: Record) -> Goal | None:
    entry = found.run(rollout.run_id)
    if rollout.plan is not None:
        stable = rollout.plan.stable_revision_id
        return Goal(
            stable, rollout.plan.revision_id, found.revision(stable), rollout.plan.fencing_token, is_return=False
        )
    if entry is None or not rollout.is_return:
        return None
    target = found.revision(entry.target)
    leaving = found.current if found.current and found.current.revision_id != entry.target else found.previous
    return Goal(entry.target, leaving.revision_id if leaving else None, target, 0, is_return=True)


def _is_proven(entry: RolloutResult, selected: str | None) -> bool:
    """Whether the candidate has shown itself on live traffic: going back from it would be the outage."""
    return entry.ended_well("watch_live") and entry.plan is not None and selected == entry.plan.revision_id


def _redirect(rollout: Rollout, seen: Seen, now: float) -> Verdict | None:
    """Send clients to the goal, bringing its groups back before if they are gone."""
    goal, selected = seen.goal, seen.traffic.selected
    if selected != goal.candidate and not (goal.is_return and selected != goal.revision_id):
        return None
    if goal.revision_id is not None:
        not_ready = _bring_back(rollout, seen)
        if not_ready is not None:
            return not_ready
    switch = Switch(rollout.spec, seen.traffic.service, goal.revision_id, goal.token, now)
    return Act(f"Service {rollout.spec.service.name}: {selected} -> {goal.revision_id}", switch)


def _bring_back(rollout: Rollout, seen: Seen) -> Verdict | None:
    """The groups of the goal, ready to serve; the candidate keeps serving until they are."""
    goal, lws = seen.goal, seen.target.lws
    if lws is not None and pod_state.is_going(lws):
        return Wait(f"LeaderWorkerSet {lws['metadata']['name']} is being deleted and will be made again")
    if lws is None and goal.known is None:
        return Fail(
            f"revision {goal.revision_id} is gone and the record has no manifests of it: "
            f"{seen.traffic.selected} keeps serving",
            f"start a rollout of the revision that you want: trigger roll_out__{rollout.spec.name.replace('-', '_')}",
        )
    if lws is None and goal.known is not None:
        groups = [one for one in goal.known.manifests if one["kind"] == kinds.LEADER_WORKER_SET.kind]
        return Act(f"make {goal.known.lws} again from the record", recovery.Apply(tuple(groups)))
    missing = group_state.not_serving(seen.target)
    if not goal.is_return and any(map(pod_state.is_ready, seen.target.leaders)):
        return None  # A part of what was good is better than all of what is not.
    return Wait(f"revision {goal.revision_id} comes back: {missing}") if missing else None


def _note(rollout: Rollout, seen: Seen) -> Act | None:
    goal, current = seen.goal, seen.record.current
    if goal.is_return and goal.known is not None and (current is None or current.revision_id != goal.revision_id):
        return Act(f"note {goal.revision_id} as current", recovery.Note(rollout, goal))
    if not goal.is_return and current is not None and current.revision_id == goal.candidate:
        return Act(f"note that {goal.candidate} is not current", recovery.Note(rollout, goal))
    return None


def _clear_away(rollout: Rollout, seen: Seen, now: float) -> Verdict | None:
    """Streams that are open on the candidate get the drain time; its logs are kept before it goes."""
    scaler = recovery.scaler(rollout.spec, seen)
    if scaler is not None:
        return scaler
    staying = [one for one in seen.doomed if not pod_state.is_going(one)]
    entry = seen.record.run(rollout.run_id)
    moved = max(seen.traffic.switched_at, http_route.moved_at(seen.route) if seen.route else 0.0)
    served = entry is not None and moved >= entry.started
    left = moved + rollout.spec.timing.drain_seconds - now
    if staying and served and left > 0:
        return Wait(f"{recovery.named(staying)} drains", {"seconds_left": round(left)})
    jobs = [job for job in seen.jobs if not pod_state.is_going(job)]
    beside = [seen.beside] if seen.beside else []
    if staying or jobs or beside:
        doomed = recovery.Remove(rollout, tuple(staying), tuple(jobs), tuple(beside), seen.pods)
        return Act(f"keep the logs and delete {recovery.named([*staying, *jobs, *beside])}", doomed)
    going = [*seen.doomed, *seen.pods]
    return Wait(f"{recovery.named(going)} end", {"pods": len(seen.pods)}) if going else None


def _prove(seen: Seen) -> Done | Wait:
    goal, evidence = seen.goal, {"serves": seen.traffic.selected, "endpoints": list(seen.traffic.endpoints)}
    if goal.revision_id is None:
        pending = (
            f"the Service still has endpoints {', '.join(seen.traffic.endpoints)}" if seen.traffic.endpoints else ""
        )
        told = f"{goal.candidate} is gone; there was no revision before it, so nothing serves"
    elif seen.traffic.selected != goal.revision_id:
        pending, told = "", f"{goal.candidate} is gone; the Service selects {seen.traffic.selected}, as somebody chose"
    else:
        pending = traffic.difference(seen.traffic, seen.target.leaders) or seen.unanswered
        told = f"{goal.revision_id} serves ({', '.join(seen.traffic.endpoints)}); {goal.candidate} is gone"
    return Wait(pending, evidence) if pending else Done(told, evidence)


def _spared(goal: Goal, selected: str | None) -> str | None:
    """What a third party made the Service select is not ours to delete."""
    return None if selected == goal.candidate else selected


def _ours(found: Manifest | None, spec: RolloutSpec) -> Manifest | None:
    return found if found is not None and traffic.is_ours(found, spec) else None


def _is_pointless(job: Manifest) -> bool:
    ended = pod_state.holds(job, "Complete") or pod_state.holds(job, "Failed")
    return not ended and job["metadata"]["labels"].get(names.STEP_LABEL) in _UNFINISHED


def _revision(manifest: Manifest) -> str | None:
    revision: str | None = manifest["metadata"].get("labels", {}).get(names.REVISION_LABEL)
    return revision


def _has_role(pod: Manifest) -> bool:
    return names.ROLE_LABEL in pod["metadata"].get("labels", {})
