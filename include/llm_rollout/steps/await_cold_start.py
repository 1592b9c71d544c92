"""Every group of the candidate serves as one; if it does not, the reason is named long before the deadline."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from llm_rollout import kinds, names, record
from llm_rollout.coldstart import diagnosis, lives, remaining, stalls, starting, timeline, words
from llm_rollout.coldstart.diagnosis import Diagnosis
from llm_rollout.coldstart.obstacles import Around
from llm_rollout.coldstart.stalls import Expected
from llm_rollout.coldstart.starting import Rank
from llm_rollout.errors import Permanent
from llm_rollout.ports import Manifest, Ports
from llm_rollout.rollout import Rollout
from llm_rollout.steps import (
    cold_start_evidence,
    cold_start_journal,
    cold_start_logs,
    group_restarts,
    group_state,
    pod_state,
    replanning,
    restart_ledger,
)
from llm_rollout.steps.group_state import GroupState
from llm_rollout.verdict import Act, Done, Fail, Verdict, Wait

_CLEAR = "when it is put right, clear create_group and what follows it"
_LINE = 160


def observe(rollout: Rollout, ports: Ports) -> GroupState:
    """Read the candidate's LeaderWorkerSet, its pods, their logs, nodes and events, and what is known of before."""
    spec, plan = rollout.spec, rollout.planned
    state = group_state.observe(ports, spec.namespace, spec.name, plan.revision_id, plan.lws)
    found = cold_start_logs.read(state.lws, state.pods, ports, spec.namespace)
    known = cold_start_journal.load(ports.cluster, spec.namespace, spec.name, rollout.attempt)
    durations, silence = _before(rollout, ports)
    state = group_state.with_events(state, ports, spec.namespace)
    return replace(
        state,
        lives=found, deaths=known, durations=durations, silence_seconds=silence,
        nodes=_nodes(state, ports), makes_room=_makes_room(rollout, state, ports),
        elsewhere=replanning.observe(rollout, ports, state),
    )  # fmt: skip


def keep(rollout: Rollout, seen: GroupState, ports: Ports) -> GroupState:
    """Write logs, ends and events to the evidence before the pods are gone."""
    return cold_start_evidence.keep(rollout, seen, ports)


def decide(rollout: Rollout, seen: GroupState, now: float) -> Verdict:
    """Serving first, then why it does not and whether it may start again, then patience."""
    if seen.lws is None or pod_state.is_going(seen.lws):
        return Fail(
            f"LeaderWorkerSet {rollout.planned.lws} is gone: somebody deleted it",
            "clear create_group and what follows it",
            _evidence(seen, ()),
        )
    missing = group_state.not_serving(seen)
    if not missing and seen.replicas:
        return group_restarts.arm(rollout, seen) or _serving(seen)
    ranks = _ranks(seen)
    found = _diagnosis(rollout, seen, ranks, now)
    verdict = group_restarts.decide(rollout, seen, found.cause, now, seen.elsewhere) if found.settled else None
    return _with_evidence(verdict or _starting(rollout, seen, ranks, missing), seen, ranks)


def act(plan: object, ports: Ports) -> None:
    """Let the group pause, start again or stay away."""
    group_restarts.act(plan, ports)


def ranks_of(state: GroupState) -> tuple[Rank, ...]:
    """Where each rank is; for those who only want to show it."""
    return _ranks(state)


def _ranks(seen: GroupState) -> tuple[Rank, ...]:
    found = starting.ranks(seen.lives, seen.events)
    there = Counter(lives.group(pod) for pod in seen.pods)
    lacking = [str(index) for index in range(seen.replicas) if there[str(index)] < seen.size]
    return (*found, *(_uncreated(seen, group) for group in lacking))


def _uncreated(seen: GroupState, group: str) -> Rank:
    """Stands for the pods of a group that no controller has made yet."""
    metadata = (seen.lws or {})["metadata"]
    managed = [entry.get("time") for entry in metadata.get("managedFields") or []]
    created = [pod["metadata"].get("creationTimestamp") for pod in seen.pods]
    since = max(
        [
            *group_state.moments([*managed, *created, metadata.get("creationTimestamp")]),
            *map(group_state.last_seen, seen.events),
        ],
        default=0.0,
    )
    told = (*group_state.warnings(seen, 1), "not created yet")[0]
    name = f"{metadata['name']}-{group}-?"
    return Rank(name, "", group, False, False, "scheduling", None, since, since, 0.0, told)


def _diagnosis(rollout: Rollout, seen: GroupState, ranks: Sequence[Rank], now: float) -> Diagnosis:
    around = Around(seen.events, seen.nodes, makes_room=seen.makes_room, asked=rollout.spec.timing.patience.asked())
    found = diagnosis.diagnose(seen.deaths, seen.lives, around, now)
    if found.cause is not None or not found.settled or not seen.replicas:
        return found
    return Diagnosis(stalls.find(ranks, _expected(rollout, seen), now))


def _expected(rollout: Rollout, seen: GroupState) -> Expected:
    return Expected(
        rollout.spec.timing.patience.asked(), rollout.planned.weights_bytes, seen.durations, seen.silence_seconds
    )


def _serving(seen: GroupState) -> Done:
    count = restart_ledger.read(seen.lws or {"metadata": {}}).failures
    failed = len({death.uid for death in seen.deaths})
    nodes = {pod_state.name(pod): pod_state.node(pod) for pod in seen.pods}
    recreated = f" after {count} recreations" if count else ""
    durations = timeline.durations([life for life in seen.lives if not life.gone and not life.end], seen.events)
    evidence: dict[str, Any] = {
        "pods": nodes, "recreations": count, "phases": durations,
        "silence_seconds": max((rank.gap for rank in starting.ranks(seen.lives, seen.events)), default=0.0),
    }  # fmt: skip
    if failed:
        evidence["failed_ranks"] = {death.pod: f"{death.class_name}: {death.message}" for death in seen.deaths}
    told = f"{seen.replicas} of {seen.replicas} groups serve ({len(seen.pods)} pods ready){recreated}"
    return Done(told, {**evidence, **_where(seen)})


def _starting(rollout: Rollout, seen: GroupState, ranks: Sequence[Rank], missing: str) -> Wait:
    """Which group is furthest behind, in which phase, and how long it may still take."""
    bad = group_state.warnings(seen)
    told = missing + (f"; {bad[0]}" if bad and not seen.pods else "")
    waiting = [group for group in starting.groups(ranks).values() if not any(one.leads and one.ready for one in group)]
    slow = [starting.behind(group)[0] for group in waiting]
    if slow:
        first = min(slow, key=lambda rank: words.PHASES.index(rank.phase))
        percent = f" {first.percent:.0f} %" if first.percent is not None else ""
        told += f"; {first.pod}: {first.phase}{percent}"
    estimate = remaining.estimate(slow, _expected(rollout, seen))
    return Wait(told, {"events": bad, **estimate.as_json()} if slow else {"events": bad})


def _with_evidence(verdict: Verdict, seen: GroupState, ranks: Sequence[Rank]) -> Verdict:
    if isinstance(verdict, Act | Done):
        return verdict
    more = _evidence(seen, ranks)
    if isinstance(verdict, Wait):
        return replace(verdict, progress={**more, **verdict.progress})
    return replace(verdict, evidence={**more, **verdict.evidence})


def _evidence(seen: GroupState, ranks: Sequence[Rank]) -> dict[str, Any]:
    found: dict[str, Any] = {"pods": {rank.pod: _told(rank) for rank in ranks}}
    if seen.deaths:
        found["ends"] = [
            f"{death.pod} on {death.node}: {death.class_name}: {death.message[:_LINE]}" for death in seen.deaths[-8:]
        ]
    return {**found, **_where(seen)}


def _where(seen: GroupState) -> dict[str, str]:
    return {"kept_at": seen.kept_at} if seen.kept_at else {}


def _told(rank: Rank) -> str:
    if rank.ready and rank.leads:
        return "ready"
    percent = f" {rank.percent:.0f} %" if rank.percent is not None else ""
    return f"{rank.phase}{percent}: {rank.line[-_LINE:]}"


def _before(rollout: Rollout, ports: Ports) -> tuple[dict[str, float], float]:
    """How long the phases took, and the longest silence, in the latest start of this model that succeeded."""
    found = record.load(ports.cluster, rollout.spec.namespace, rollout.spec.name)
    for entry in reversed(found.rollouts):
        result = entry.step("await_cold_start")
        if result is not None and result.verdict == "done" and result.evidence.get("phases"):
            return dict(result.evidence["phases"]), float(result.evidence.get("silence_seconds", 0.0))
    return {}, 0.0


def _nodes(state: GroupState, ports: Ports) -> dict[str, Manifest]:
    """The nodes of the pods; none where they may not be read, and then a lost node is told by its pods alone."""
    wanted = sorted({pod_state.node(pod) for pod in state.pods} - {""})
    try:
        found = {name: ports.cluster.get(kinds.NODE, "", name) for name in wanted}
    except Permanent:
        return {}
    return {name: node for name, node in found.items() if node is not None}


def _makes_room(rollout: Rollout, state: GroupState, ports: Ports) -> bool:
    if all(pod_state.node(pod) for pod in state.pods):
        return False
    labels = {names.MODEL_LABEL: rollout.spec.name}
    return any(pod_state.is_going(pod) for pod in ports.cluster.list(kinds.POD, rollout.spec.namespace, labels))
