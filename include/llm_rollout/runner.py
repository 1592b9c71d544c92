"""Carry one step out: observe, decide, act until the step answers, and write the answer into the record.

The Airflow tasks call ``advance``, their triggers ``look`` and now and then ``note``, and ``past_deadline`` when the
budget is used up.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import cast

from llm_rollout import budgets, record, results, standing
from llm_rollout.errors import Conflict, Permanent, Transient
from llm_rollout.ports import Ports
from llm_rollout.record import Record
from llm_rollout.rollout import Rollout, Step
from llm_rollout.spec import RolloutSpec
from llm_rollout.steps import PIPELINE, RECOVERY
from llm_rollout.verdict import Act, Done, Fail, Verdict, Wait

MOST_ACTS = 16
"""A step that still has to write after so many writes is at odds with somebody else's controller."""

_TRIES = 4
_NEEDS_NO_PLAN = ("plan_rollout", "roll_back", "conclude")
_OF_AN_UNCHANGED_REVISION = ("plan_rollout", "retire_previous", "conclude")
_NOTHING = "the target was live before this run: nothing to do"


def advance(
    step: str, rollout: Rollout, ports: Ports, now: Callable[[], float], waited_seconds: float = 0.0
) -> Done | Wait | Fail:
    """Observe, decide and act until the verdict is not Act; the verdict stands in the record when this returns.

    Args:
        step: A name of ``PIPELINE`` or ``RECOVERY``.
        rollout: The run with the spec file's spec; the plan is taken from the record.
        ports: The outside.
        now: Seconds since the epoch.
        waited_seconds: What the caller spent waiting for this step since its last call.

    Raises:
        Transient: The outside did not answer; calling again is right.
    """
    allowed = _allowed(step, rollout, ports, now)
    if not isinstance(allowed, Record):
        return allowed
    started = now()
    verdict = _decided(step, _in_force(step, rollout, allowed), ports, now)
    if not rollout.dry_run:
        results.write(step, rollout, ports, verdict, results.Times(started, now(), waited_seconds))
    return verdict


def look(step: str, rollout: Rollout, ports: Ports, now: Callable[[], float]) -> Verdict:
    """Observe, keep what may be gone soon, decide, and write nothing else. Act means: call ``advance``.

    Raises:
        Transient: The outside did not answer; looking again is right.
    """
    try:
        found = record.load(ports.cluster, rollout.spec.namespace, rollout.spec.name)
        settled = standing.settled(step, rollout, found)
        return settled or _once(step, _in_force(step, rollout, found), ports, now)
    except Permanent as error:
        return _refused(error)


def note(step: str, rollout: Rollout, ports: Ports, now: Callable[[], float], waiting: Wait) -> None:
    """Write into the record how far a waiting step is, where this run still may.

    Raises:
        Transient: The outside did not answer; the next note will say it.
    """
    if not rollout.dry_run and standing.refusal(rollout, ports, now()) is None:
        results.note(step, rollout, ports, waiting)


def past_deadline(step: str, rollout: Rollout, ports: Ports, now: Callable[[], float], waited_seconds: float) -> Fail:
    """The end of a step that has used its budget up: what it still waits for becomes the cause, recorded."""
    seen = look(step, rollout, ports, now)
    found = record.load(ports.cluster, rollout.spec.namespace, rollout.spec.name)
    spec = _in_force(step, rollout, found).spec
    verdict = (
        seen if isinstance(seen, Fail) else _too_late(step, seen, budgets.wait_seconds(step, spec), waited_seconds)
    )
    if not rollout.dry_run and standing.refusal(rollout, ports, now()) is None:
        results.write(step, rollout, ports, verdict, results.Times(now(), now(), waited_seconds))
    return verdict


def deadline_seconds(step: str, spec: RolloutSpec) -> int:
    """How long a step may wait in all."""
    return budgets.wait_seconds(step, spec)


def _allowed(step: str, rollout: Rollout, ports: Ports, now: Callable[[], float]) -> Record | Done | Fail:
    """The record, once this run may write; or what is to be said instead."""
    for _ in range(_TRIES):
        found = record.load(ports.cluster, rollout.spec.namespace, rollout.spec.name)
        settled = standing.settled(step, rollout, found)
        if settled is not None or rollout.dry_run:
            return settled or found
        try:
            refused = standing.hold(step, rollout, ports, found, now())
        except Conflict:
            continue  # A parallel step renewed the lease, or another run took it.
        return refused or record.load(ports.cluster, rollout.spec.namespace, rollout.spec.name)
    raise Transient(f"the lease of {rollout.spec.name} changed {_TRIES} times while it was read")


def _decided(step: str, rollout: Rollout, ports: Ports, now: Callable[[], float]) -> Done | Wait | Fail:
    try:
        return _until_settled(step, rollout, ports, now)
    except Permanent as error:
        return _refused(error)


def _until_settled(step: str, rollout: Rollout, ports: Ports, now: Callable[[], float]) -> Done | Wait | Fail:
    wanted = ""
    for _ in range(MOST_ACTS):
        verdict = _once(step, rollout, ports, now)
        if not isinstance(verdict, Act):
            return verdict
        wanted = verdict.summary
        lost = standing.refusal(rollout, ports, now())
        if lost is not None:
            return lost
        try:
            _module(step).act(verdict.plan, ports)
        except Conflict:
            continue  # Somebody wrote first: what to do now depends on what they wrote.
        rollout = _in_force(step, rollout, record.load(ports.cluster, rollout.spec.namespace, rollout.spec.name))
    raise Transient(f"{step}: still something to write after {MOST_ACTS} writes: {wanted}")


def _once(step: str, rollout: Rollout, ports: Ports, now: Callable[[], float]) -> Verdict:
    if step not in _NEEDS_NO_PLAN and rollout.planned.already_live and step not in _OF_AN_UNCHANGED_REVISION:
        return Done(_NOTHING)
    module = _module(step)
    seen = module.observe(rollout, ports)
    return module.decide(rollout, seen if rollout.dry_run else _kept(module, rollout, seen, ports), now())


def _kept(module: Step, rollout: Rollout, seen: object, ports: Ports) -> object:
    """What was seen, after the step has kept of it what may be gone at the next look. Keeping never decides."""
    keep = getattr(module, "keep", None)
    if keep is None:
        return seen
    try:
        return keep(rollout, seen, ports)
    except (Transient, Permanent):
        return seen


def _module(step: str) -> Step:
    if step not in PIPELINE and step not in RECOVERY:
        raise ValueError(f"{step!r} is not a step: {', '.join((*PIPELINE, *RECOVERY))}")
    return cast("Step", importlib.import_module(f"llm_rollout.steps.{step}"))


def _in_force(step: str, rollout: Rollout, found: Record) -> Rollout:
    """``plan_rollout`` reads the file's spec, all others the plan's."""
    entry = found.run(rollout.run_id)
    return rollout if step == PIPELINE[0] or entry is None or entry.plan is None else rollout.under(entry.plan)


def _refused(error: Permanent) -> Fail:
    return Fail(str(error), "the cause says what is wrong; when it is put right, clear this task")


def _too_late(step: str, seen: Done | Act | Wait, budget_seconds: int, waited_seconds: float) -> Fail:
    if isinstance(seen, Wait):
        return Fail(
            f"waited {waited_seconds:.0f} s of at most {budget_seconds} s, and still: {seen.reason}",
            "look at the evidence; when the obstacle is gone, clear this task: it goes on where it stands",
            seen.progress,
        )
    return Fail(
        f"{step} used its {budget_seconds} s up, and just then: {seen.summary}",
        "clear this task: it goes on where it stands",
    )
