"""How a step stands, written into the record; what is too long for it goes to the evidence store."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llm_rollout import record
from llm_rollout.ports import Ports
from llm_rollout.record import Record, StepResult
from llm_rollout.rollout import Rollout
from llm_rollout.verdict import Done, Fail, Wait

MOST_EVIDENCE_BYTES = 8_000
"""Longer evidence goes to the evidence store; the record keeps its short values and the address."""
_SHORT_BYTES = 1_000


@dataclass(frozen=True)
class Times:
    """Seconds since the epoch when a look began and ended, and what was waited before it."""

    started: float
    ended: float
    waited_seconds: float


def write(step: str, rollout: Rollout, ports: Ports, verdict: Done | Wait | Fail, times: Times) -> None:
    """``conclude`` writes the run's end itself, and after that nothing more is written."""
    if step == "conclude":
        return
    evidence = _short(step, rollout, ports, verdict.progress if isinstance(verdict, Wait) else verdict.evidence)

    def changed(found: Record) -> Record:
        entry = found.run(rollout.run_id)
        before = entry.step(step) if entry else None
        if before is not None and (before.verdict, before.summary) == ("done", getattr(verdict, "summary", None)):
            return found  # A finished step that was run again keeps its times.
        return found.with_step(rollout.run_id, _result(step, verdict, evidence, times, before))

    record.update(ports.cluster, rollout.spec.namespace, rollout.spec.name, changed)


def note(step: str, rollout: Rollout, ports: Ports, waiting: Wait) -> None:
    """How far a step is that waits, in place of how far it was; one that has ended meanwhile stays as it ended."""
    evidence = _short(step, rollout, ports, waiting.progress)

    def changed(found: Record) -> Record:
        entry = found.run(rollout.run_id)
        before = entry.step(step) if entry else None
        if before is None or before.verdict != "wait":
            return found
        now = before.model_copy(update={"summary": waiting.reason, "evidence": evidence})
        return found.with_step(rollout.run_id, now)

    record.update(ports.cluster, rollout.spec.namespace, rollout.spec.name, changed)


def _result(
    step: str,
    verdict: Done | Wait | Fail,
    evidence: dict[str, Any],
    times: Times,
    before: StepResult | None,
) -> StepResult:
    goes_on = before is not None and before.ended is None
    common = {
        "step": step,
        "started": before.started if before and goes_on else times.started,
        "waited_seconds": times.waited_seconds + (before.waited_seconds if before and goes_on else 0.0),
        "evidence": evidence,
    }
    if isinstance(verdict, Wait):
        return StepResult(verdict="wait", summary=verdict.reason, **common)
    if isinstance(verdict, Done):
        return StepResult(verdict="done", summary=verdict.summary, ended=times.ended, **common)
    return StepResult(verdict="fail", summary=verdict.cause, remedy=verdict.remedy, ended=times.ended, **common)


def _short(step: str, rollout: Rollout, ports: Ports, evidence: Mapping[str, Any]) -> dict[str, Any]:
    text = json.dumps(evidence, default=str)
    if len(text) <= MOST_EVIDENCE_BYTES:
        return dict(json.loads(text))
    address = ports.evidence.put(rollout.evidence_path(f"{step}.json"), text)
    small = {key: value for key, value in evidence.items() if len(json.dumps(value, default=str)) <= _SHORT_BYTES}
    return {**dict(json.loads(json.dumps(small, default=str))), "full": address}
