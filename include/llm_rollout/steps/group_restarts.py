"""How often a candidate may start again, with pauses that grow, and what becomes of it when none is left.

LeaderWorkerSet makes a failed group anew at once and for ever (kubernetes-sigs/lws#1048: 30 times in 90 s), so a
candidate is made with its restart policy off (``manifests.leader_worker_set.starting``): a failed group stays for its
evidence until it is scaled to zero here. After a pause it starts again, as often as the budget says, and in the end it
stays at zero, so that it holds no GPUs. A cause that cannot pass gets no recreation at all. Groups that have come up
are handed to the controller, which then recreates one that fails.
"""

from __future__ import annotations

from dataclasses import dataclass

from llm_rollout import clock, kinds
from llm_rollout.coldstart import words
from llm_rollout.coldstart.deaths import Death
from llm_rollout.coldstart.secrets import without_keys
from llm_rollout.coldstart.words import Cause
from llm_rollout.errors import Conflict
from llm_rollout.manifests.leader_worker_set import is_starting, leader_worker_set, scaled, serving
from llm_rollout.ports import Manifest, Ports
from llm_rollout.rollout import Rollout
from llm_rollout.steps import group_state, pod_state, replanning, restart_ledger
from llm_rollout.steps.group_state import GroupState
from llm_rollout.steps.pod_state import Crash
from llm_rollout.steps.replanning import Elsewhere
from llm_rollout.steps.restart_ledger import Ended, Ledger, Spent
from llm_rollout.verdict import Act, Fail, Verdict, Wait

FIRST_PAUSE_SECONDS = 10.0
"""As the kubelet's own back-off begins."""
PAUSE_GROWS_BY = 3
LONGEST_PAUSE_SECONDS = 300.0
"""As the kubelet's own back-off ends."""
_HANGING_SECONDS = 60.0
"""What a pod gets beyond its grace period: the API server forgets one at once when its node says that it has ended."""
_NAMING_SECONDS = 5.0
"""What the first cause gets to show once the candidate is scaled to zero: ranks die one after the other."""
_TRIES = 8
_LONGEST_MESSAGE = 500
_CLEAR = "when it is put right, clear create_group and what follows it"
_DEAD_WITHOUT_A_CRASH = frozenset({"NODE_LOST", "EVICTED"})
_UNSEEN = Cause("UNKNOWN", "nobody saw how it ended", "read the logs in the evidence, correct the spec")


@dataclass(frozen=True)
class Restart:
    """The candidate's LeaderWorkerSet with other numbers, to be applied if nobody changed it since it was seen."""

    manifest: Manifest
    seen: Manifest


def decide(
    rollout: Rollout, seen: GroupState, cause: Cause | None, now: float, elsewhere: Elsewhere | None = None
) -> Verdict | None:
    """What a failed start leads to; None when none has failed that was not dealt with: keep waiting.

    It has to be asked before "serves": a candidate that is scaled to zero lacks nothing of what it asks for.

    Args:
        rollout: The run with its plan.
        seen: The candidate with its events.
        cause: The first cause over all ranks, once it is sure; None while nothing has failed.
        now: Seconds since the epoch.
        elsewhere: What ``replanning.observe`` saw; without it no node is left out.
    """
    if seen.lws is None or pod_state.is_going(seen.lws):
        return None
    ledger = restart_ledger.read(seen.lws)
    if ledger.spent is not None:
        return _given_up(rollout, seen, ledger, cause, now)
    count = restart_ledger.failures(ledger, seen, _lost(seen, cause))
    never_heals = cause is not None and cause.class_name not in words.MAY_PASS
    # Also in a pause: a controller that was in charge can have made a group anew before it was scaled to zero.
    if never_heals or count > rollout.spec.timing.max_recreations or _lws_gave_up(seen):
        return _spend(rollout, seen, ledger, cause, now)
    if ledger.resume_at is None:
        return _charged(rollout, seen, ledger, cause, now) if count > ledger.failures else None
    refined = _refined(seen, ledger, cause)
    if refined != ledger:
        return _write(rollout, seen, refined, f"note what failed: {_last(refined)}")
    return replanning.decide(rollout, ledger, elsewhere, now) or _paused(rollout, seen, ledger, now)


def act(plan: object, ports: Ports) -> None:
    """Apply. What the controller writes into the status meanwhile is no reason to look again: it writes all the time.

    Raises:
        Conflict: Somebody changed the LeaderWorkerSet since it was seen.
    """
    if not isinstance(plan, Restart):
        replanning.act(plan, ports)
        return
    name, namespace = plan.seen["metadata"]["name"], plan.seen["metadata"]["namespace"]
    for _ in range(_TRIES):
        live = ports.cluster.get(kinds.LEADER_WORKER_SET, namespace, name)
        if live is None or _content(live) != _content(plan.seen):
            break
        version = {"resourceVersion": live["metadata"]["resourceVersion"]}
        try:
            ports.cluster.apply({**plan.manifest, "metadata": {**plan.manifest["metadata"], **version}})
        except Conflict:
            continue
        return
    raise Conflict(f"LeaderWorkerSet {namespace}/{name} has changed since it was seen")


def arm(rollout: Rollout, seen: GroupState) -> Act | None:
    """Hand groups that serve to the controller; None once that is done."""
    if seen.lws is None or not is_starting(seen.lws):
        return None
    wanted = serving(leader_worker_set(rollout.spec, rollout.planned), seen.lws)
    return Act(f"let the controller recreate groups of {rollout.planned.lws} that fail", Restart(wanted, seen.lws))


def pause_seconds(failures: int) -> float:
    """How long a candidate pauses after so many failed starts; after the first one it goes on at once."""
    if failures <= 1:
        return 0.0
    return min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * float(PAUSE_GROWS_BY) ** (failures - 2))


def _charged(rollout: Rollout, seen: GroupState, ledger: Ledger, cause: Cause | None, now: float) -> Act:
    """A failure that was not dealt with yet: all groups go, and come again when the pause is over."""
    after = restart_ledger.noted(ledger, seen, _blamed(seen, cause), _lost(seen, cause))
    seconds = pause_seconds(after.failures)
    paused = after.model_copy(update={"resume_at": now + seconds})
    return _write(rollout, seen, paused, f"scale {rollout.planned.lws} to zero for {seconds:.0f} s", replicas=0)


def _paused(rollout: Rollout, seen: GroupState, ledger: Ledger, now: float) -> Verdict:
    """Clean generations: the next one starts when the pause is over and nothing of the one before is left."""
    count, allowed = restart_ledger.failures(ledger, seen), rollout.spec.timing.max_recreations
    resume_at = ledger.resume_at or now
    left = [pod_state.name(pod) for pod in seen.pods]
    told = f"recreation {count} of at most {allowed}"
    progress = {"failed_starts": count}
    if now < resume_at:
        return Wait(f"{told} begins in {resume_at - now:.0f} s: {_last(ledger)}", progress)
    if left:
        return _hanging(seen, now) or Wait(f"{told} begins when {', '.join(left)} have ended", progress)
    going_on = ledger.model_copy(update={"resume_at": None, "failures": count})
    return _write(rollout, seen, going_on, f"{told}: start {rollout.planned.lws} again", rollout.spec.groups)


def _spend(rollout: Rollout, seen: GroupState, ledger: Ledger, cause: Cause | None, now: float) -> Act:
    """Scale to zero first. What is to be said of it is written down too: soon no pod is left to read it from."""
    noted = restart_ledger.noted(ledger, seen, _blamed(seen, cause), _lost(seen, cause))
    after = noted.model_copy(update={"resume_at": None})
    spent = _named(rollout, seen, after, cause, now) if cause else Spent(since=now)
    why = spent.cause or f"{after.failures} starts failed"
    return _write(
        rollout, seen, after.model_copy(update={"spent": spent}), f"scale {rollout.planned.lws} to zero: {why}", 0
    )


def _named(rollout: Rollout, seen: GroupState, ledger: Ledger, cause: Cause | None, now: float) -> Spent:
    count, allowed = ledger.failures, rollout.spec.timing.max_recreations
    bounds = (
        f"{count} starts failed: recreated {max(0, count - 1)} times, timing.max_recreations allows {allowed}"
        if cause is None or cause.class_name in words.MAY_PASS
        else "another start would end the same, so the group is not recreated"
    )
    remedy = without_keys((cause or _UNSEEN).remedy)
    said = _said(seen, cause) if cause else f"{_last(ledger)}: {_UNSEEN.message}"
    return Spent(since=now, cause=f"{said}; {bounds}", remedy=f"{remedy}; {_CLEAR}")


def _given_up(rollout: Rollout, seen: GroupState, ledger: Ledger, cause: Cause | None, now: float) -> Act | Wait | Fail:
    spent, lws = ledger.spent or Spent(since=now), rollout.planned.lws
    if seen.replicas != 0:
        return _write(rollout, seen, ledger, f"scale {lws} to zero", replicas=0)
    if not spent.cause:
        if cause is None and now < spent.since + _NAMING_SECONDS:
            return Wait(f"{ledger.failures} starts failed, {lws} is scaled to zero: reading what ended the last")
        named = ledger.model_copy(update={"spent": _named(rollout, seen, ledger, cause, now)})
        return _write(rollout, seen, named, "note what ended the last start")
    starts = [one.model_dump(exclude_defaults=True) for one in ledger.ended if one.class_name]
    return Fail(
        f"{spent.cause}; LeaderWorkerSet {lws} is scaled to zero",
        spent.remedy,
        {"failed_starts": ledger.failures, "starts": starts, "events": group_state.warnings(seen)},
    )


def _refined(seen: GroupState, ledger: Ledger, cause: Cause | None) -> Ledger:
    """With the first cause in the place of what showed first, as soon as it is known."""
    death = _death(seen, cause)
    return ledger if death is None else restart_ledger.blaming(ledger, death.node, death.class_name)


def _write(rollout: Rollout, seen: GroupState, ledger: Ledger, summary: str, replicas: int | None = None) -> Act:
    live = seen.lws or {}
    count = seen.replicas if replicas is None else replicas
    manifest = scaled(leader_worker_set(rollout.spec, rollout.planned), live, count, ledger.text())
    return Act(summary, Restart(manifest, live))


def _content(lws: Manifest) -> tuple[object, ...]:
    """Everything that the status is not."""
    metadata = lws["metadata"]
    return metadata.get("uid"), lws.get("spec"), metadata.get("annotations"), "deletionTimestamp" in metadata


def _hanging(seen: GroupState, now: float) -> Fail | None:
    """A pod on a node that is gone stays until somebody says that it is over; its name is needed for the next start."""
    hung = [pod for pod in seen.pods if now - (_gone_at(pod) or now) > _HANGING_SECONDS]
    if not hung:
        return None
    told = ", ".join(f"{pod_state.name(pod)} on {pod_state.node(pod)}" for pod in hung)
    return Fail(
        f"pods do not end: {told}: their grace period was over {_HANGING_SECONDS:.0f} s ago",
        "bring the node back, or make sure that it is off and delete the pod with --force; then clear this task",
        {"pods": [pod_state.name(pod) for pod in hung]},
    )


def _gone_at(pod: Manifest) -> float | None:
    """When a pod that is being deleted should have been gone, in seconds since the epoch."""
    return clock.seconds(pod["metadata"].get("deletionTimestamp"))


def _lws_gave_up(seen: GroupState) -> bool:
    """LeaderWorkerSet from v1 on counts as well, where its API has ``maxGroupRestarts``."""
    condition = pod_state.condition(seen.lws or {"metadata": {}}, "Degraded")
    return condition.get("status") == "True" and condition.get("reason") == "ReplicaRestartBudgetExceeded"


def _is_of_now(cause: Cause, seen: GroupState) -> bool:
    """Whether a cause is of a pod that is there, and not of one that had its name before."""
    pod = next((pod for pod in seen.pods if pod_state.name(pod) == cause.source), None)
    if pod is None:
        return False
    return cause.at is None or cause.at >= pod_state.created(pod)


def _lost(seen: GroupState, cause: Cause | None) -> str:
    """The pod that is dead although none of its containers has ended; empty when there is none."""
    if cause is None or cause.class_name not in _DEAD_WITHOUT_A_CRASH or not _is_of_now(cause, seen):
        return ""
    return cause.source


def _crash(seen: GroupState, cause: Cause | None) -> Crash | None:
    """The crash that the cause speaks of, else the earliest of this generation: the others followed it."""
    crashes = [crash for pod in seen.pods if (crash := pod_state.crash(pod))]
    meant = [crash for crash in crashes if cause and crash.pod == cause.source and _is_of_now(cause, seen)]
    return min(meant or crashes, key=lambda crash: crash.ended, default=None)


def _blamed(seen: GroupState, cause: Cause | None) -> Ended | None:
    """The generation that failed, with the node on which it failed first."""
    crash = _crash(seen, cause)
    fresh = cause if cause and _is_of_now(cause, seen) else None
    pod = crash.pod if crash else fresh.source if fresh else ""
    uid = restart_ledger.leader_of(pod, seen)
    if not uid:
        return None
    nodes = {pod_state.name(one): pod_state.node(one) for one in seen.pods}
    kind = fresh.class_name if fresh else "UNKNOWN"
    return Ended(uid=uid, group=restart_ledger.group_of(pod, seen), node=nodes.get(pod, ""), class_name=kind)


def _death(seen: GroupState, cause: Cause | None) -> Death | None:
    """The end that the cause was read from, which outlives its pod."""
    meant = [one for one in seen.deaths if cause and (one.pod, one.class_name) == (cause.source, cause.class_name)]
    return max(meant, key=lambda one: one.ended, default=None)


def _said(seen: GroupState, cause: Cause | None) -> str:
    """Class, pod, node, exit code and the engine's or the cluster's own words."""
    told = cause or _UNSEEN
    end: Death | Crash | None = _death(seen, cause) or _crash(seen, cause)
    pod = told.source or (end.pod if end else "")
    nodes = {pod_state.name(one): pod_state.node(one) for one in seen.pods}
    node = end.node if end and end.pod == pod else nodes.get(pod, "")
    code = _code(end) if end and end.pod == pod else ""
    where = f" on pod {pod}" if pod else ""
    place = f"{where}{f' on {node}' if node else ''}"
    return f"{told.class_name}{place}{code}: {without_keys(told.message)[:_LONGEST_MESSAGE]}"


def _code(end: Death | Crash) -> str:
    if end.exit_code is None:
        return ""
    return f", exit code {end.exit_code}" + (f" ({end.reason})" if end.reason not in ("", "Error") else "")


def _last(ledger: Ledger) -> str:
    """The latest failure that was seen while it happened."""
    known = [one for one in ledger.ended if one.class_name]
    return f"{known[-1].class_name} on {known[-1].node}" if known else _UNSEEN.class_name
