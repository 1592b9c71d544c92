"""What is kept of a cold start for a person: every rank's log, the pods and events, and a picture of the whole.

Paths are ``<model>/<run>/await_cold_start/<pod>.<uid>.<restart>.log``, ``group.json`` and ``timeline.svg``. Only what
changed is written again: a log when its phase changes, when its container ends, and when its pod is gone.
"""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial

from llm_rollout.coldstart import deaths, happened, starting, timeline
from llm_rollout.coldstart.lives import Life
from llm_rollout.coldstart.secrets import without_keys
from llm_rollout.ports import Manifest, Ports
from llm_rollout.rollout import Rollout
from llm_rollout.steps import cold_start_journal, kept_files
from llm_rollout.steps.group_state import GroupState


def keep(rollout: Rollout, seen: GroupState, ports: Ports) -> GroupState:
    """Write what is new, note the ends of ranks, and say where it lies.

    Raises:
        Transient: A store did not answer.
        Permanent: A store refused.
    """
    spec = rollout.spec
    ends = deaths.find(seen.lives, seen.events)
    cold_start_journal.note(ports.cluster, spec.namespace, spec.name, rollout.attempt, ends)
    known = {death.key: death for death in (*seen.deaths, *ends)}
    folder = rollout.evidence_path("await_cold_start")
    now = replace(seen, deaths=tuple(known.values()))
    for life in seen.lives:
        if life.text:
            kept_files.put(
                ports, f"{folder}/{life.name}.{life.uid[:8]}.{life.restart}.log", _stage_of(life), partial(_log, life)
            )
    group = _group(now)
    address = kept_files.put(ports, f"{folder}/group.json", group, lambda: group)
    if seen.lives:
        stages = [[life.uid, *_stage_of(life)] for life in seen.lives]
        kept_files.put(ports, f"{folder}/timeline.svg", stages, partial(_picture, now))
    return replace(now, kept_at=address.rpartition("/")[0])


def _log(life: Life) -> str:
    return life.text


def _picture(seen: GroupState) -> str:
    return timeline.svg(timeline.spans(seen.lives, seen.events), deaths.latest_generation(seen.deaths))


def _stage_of(life: Life) -> list[object]:
    shown = starting.read(life.text)
    ended = bool(life.end) or life.gone or "deletionTimestamp" in life.pod["metadata"]
    return [shown.phase, shown.cause is not None, ended, len(life.text) if ended else 0]


def _group(seen: GroupState) -> str:
    pods = {life.name: {**_status(life.pod), "gone": life.gone} for life in seen.lives}
    told = [
        {
            "about": event.get("involvedObject", {}).get("name"), "reason": event.get("reason"),
            "message": without_keys(str(event.get("message", ""))), "count": event.get("count"),
            "first": happened.first(event), "last": happened.last(event),
        }
        for event in sorted(seen.events, key=happened.last)
    ]  # fmt: skip
    ends = [death.model_dump() for death in seen.deaths]
    return without_keys(json.dumps({"pods": pods, "events": told, "ends": ends}, indent=1, default=str))


def _status(pod: Manifest) -> dict[str, object]:
    status = pod.get("status", {})
    shown = ("phase", "reason", "message", "conditions", "containerStatuses", "startTime")
    metadata = {key: pod["metadata"].get(key) for key in ("uid", "creationTimestamp", "deletionTimestamp")}
    return {**metadata, "node": pod.get("spec", {}).get("nodeName"), **{key: status.get(key) for key in shown}}
