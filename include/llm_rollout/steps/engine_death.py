"""Why a group that had come up serves no more: the first cause over its ranks, from their ends and their logs.

A group that serves is made anew by its controller as soon as a rank dies, so ends and logs are kept at every look.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from llm_rollout import clock, record
from llm_rollout.coldstart import deaths, diagnosis
from llm_rollout.coldstart.diagnosis import Diagnosis
from llm_rollout.coldstart.lives import Life
from llm_rollout.coldstart.obstacles import Around
from llm_rollout.coldstart.words import Cause
from llm_rollout.ports import Ports
from llm_rollout.rollout import Rollout
from llm_rollout.steps import cold_start_evidence, cold_start_journal, cold_start_logs, group_state
from llm_rollout.steps.group_state import GroupState


@dataclass(frozen=True)
class Aftermath:
    """A group with the logs, ends and events of its ranks."""

    group: GroupState
    since: float
    """Seconds since the epoch at which it had come up: what ended before is no matter any more."""


def observe(rollout: Rollout, state: GroupState, ports: Ports) -> Aftermath:
    """Read what the ranks printed and how they ended."""
    spec = rollout.spec
    group = replace(
        group_state.with_events(state, ports, spec.namespace),
        lives=cold_start_logs.read(state.lws, state.pods, ports, spec.namespace),
        deaths=cold_start_journal.load(ports.cluster, spec.namespace, spec.name, rollout.attempt),
    )
    entry = record.load(ports.cluster, spec.namespace, spec.name).run(rollout.run_id)
    started = entry.step("await_cold_start") if entry else None
    return Aftermath(group, (started.ended or 0.0) if started else 0.0)


def keep(rollout: Rollout, seen: Aftermath, ports: Ports) -> Aftermath:
    """Write logs and ends to the evidence before the pods are gone."""
    return replace(seen, group=cold_start_evidence.keep(rollout, seen.group, ports))


def diagnose(seen: Aftermath, now: float) -> Diagnosis:
    """The first cause; not settled while ranks may still speak.

    A rank that serves may have logged why it fails before it ends, or without ending at all.
    """
    events, since = seen.group.events, seen.since
    known = [death for death in seen.group.deaths if death.ended >= since]
    found = [life for life in seen.group.lives if _ended_at(life) is None or (_ended_at(life) or 0.0) >= since]
    ended = diagnosis.diagnose(known, found, Around(events), now)
    if ended.cause is not None or not ended.settled:
        return ended
    talking = deaths.first_of(deaths.hanging(found, events, now, at_once=True))
    return Diagnosis(talking.cause if talking else None)


def told(cause: Cause) -> str:
    """For a person: class, pod and the engine's own words."""
    return f"{cause.class_name} on pod {cause.source}: {cause.message}"


def _ended_at(life: Life) -> float | None:
    return clock.seconds(life.end.get("finishedAt"))
