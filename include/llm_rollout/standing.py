"""Whether a run may still say anything, and whether it may write: its standing in the record, and the lease."""

from __future__ import annotations

from llm_rollout import budgets, clock, lease, record
from llm_rollout.ports import Ports
from llm_rollout.record import Record
from llm_rollout.rollout import Rollout
from llm_rollout.steps import PIPELINE
from llm_rollout.verdict import Done, Fail

_OPENING = PIPELINE[0]


def settled(step: str, rollout: Rollout, found: Record) -> Done | Fail | None:
    """What is said without looking at the cluster: of ended runs, of overtaken runs, of runs that never began."""
    entry = found.run(rollout.run_id)
    if entry is not None and entry.outcome == "succeeded":
        return Done(f"rollout already concluded: {entry.reason}")
    later = found.later_than(rollout.run_id)
    if later is not None:
        return Fail(
            f"run {later.run_id} of {found.name} began after this run ({rollout.run_id}): what this run would write is "
            "out of date",
            f"start a new rollout of {found.name} at the revision that you want",
        )
    if rollout.dry_run and step != _OPENING:
        return Done("dry run: nothing was written, nothing to do")
    if entry is None and step == "roll_back" and not rollout.is_return:
        return Done("this run never held the lease: it wrote nothing, nothing to roll back")
    return None


def hold(step: str, rollout: Rollout, ports: Ports, found: Record, now: float) -> Fail | None:
    """Take or renew the lease for longer than the step may wait, and open the run's entry where that is due.

    Raises:
        Conflict: The lease changed since it was read here; what it says now decides.
    """
    spec, entry = rollout.spec, found.run(rollout.run_id)
    if step == "conclude" and (entry is None or entry.outcome is not None):
        return None  # It only says how the run ended.
    seen = lease.read(ports.cluster, spec.namespace, spec.name)
    if not seen.may_take(rollout.run_id, found.ended_runs(), now):
        return _held_by(seen)
    returning = step == "roll_back" and rollout.is_return
    if entry is None and step != _OPENING and not returning:
        return Fail(
            f"run {rollout.run_id} has no entry in the record of {spec.name}", "clear plan_rollout and what follows it"
        )
    lease.take(ports.cluster, seen, rollout.run_id, budgets.lease_seconds(step, spec), now)
    target = found.previous.revision_id if returning and found.previous else None

    def opened(latest: Record) -> Record:
        return latest.opened(rollout.run_id, rollout.revision, now, target)

    record.update(ports.cluster, spec.namespace, spec.name, opened)
    return None


def refusal(rollout: Rollout, ports: Ports, now: float) -> Fail | None:
    """Why this run may not write right now: it does not hold the lease any more."""
    seen = lease.read(ports.cluster, rollout.spec.namespace, rollout.spec.name)
    return None if seen.holder == rollout.run_id and seen.expires > now else _held_by(seen)


def _held_by(seen: lease.Lease) -> Fail:
    until = clock.rfc3339(seen.expires)
    return Fail(
        f"run {seen.holder or '(nobody)'} holds the lease of {seen.model}, renewed {clock.rfc3339(seen.renewed)}, "
        f"until {until}: only one rollout of a model writes at a time",
        f"wait for that run; if it is gone, clear this task after {until}",
        {"holder": seen.holder, "fencing_token": seen.token, "expires": until},
    )
