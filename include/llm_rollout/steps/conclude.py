"""How the run ended, in the record; red if the rollout did not happen."""

from __future__ import annotations

from dataclasses import dataclass

from llm_rollout import lease, record
from llm_rollout.ports import Ports
from llm_rollout.record import Ended, Record, RolloutResult, StepResult
from llm_rollout.rollout import Rollout
from llm_rollout.steps import PIPELINE
from llm_rollout.verdict import Act, Done, Fail, Verdict


@dataclass(frozen=True)
class Ending:
    """What to write down, and the lease to give back."""

    rollout: Rollout
    outcome: Ended
    reason: str
    now: float


def observe(rollout: Rollout, ports: Ports) -> RolloutResult | None:
    """Read the run's entry."""
    return record.load(ports.cluster, rollout.spec.namespace, rollout.spec.name).run(rollout.run_id)


def decide(rollout: Rollout, seen: RolloutResult | None, now: float) -> Verdict:
    """Write the end once; then say it."""
    if seen is None:
        return Fail(
            f"the rollout did not start: run {rollout.run_id} never held the lease of {rollout.spec.name}",
            "plan_rollout says why",
        )
    if seen.outcome is None:
        outcome, reason = _ending(seen)
        return Act(f"conclude: {outcome}", Ending(rollout, outcome, reason, now))
    evidence = {"outcome": seen.outcome, "run_id": seen.run_id}
    if seen.outcome == "succeeded":
        return Done(seen.reason, evidence)
    failed = _first_failure(seen)
    return Fail(seen.reason, failed.remedy if failed and failed.remedy else "start a new rollout", evidence)


def act(plan: object, ports: Ports) -> None:
    """Write the outcome, then release the lease: whoever finds the lease of an ended run may take it anyway."""
    if not isinstance(plan, Ending):
        return
    run, spec = plan.rollout, plan.rollout.spec

    def concluded(found: Record) -> Record:
        return found.concluded(run.run_id, plan.outcome, plan.reason, plan.now)

    record.update(ports.cluster, spec.namespace, spec.name, concluded)
    lease.release(ports.cluster, lease.read(ports.cluster, spec.namespace, spec.name), run.run_id, plan.now)


def _ending(seen: RolloutResult) -> tuple[Ended, str]:
    if seen.plan is None and seen.ended_well("roll_back") and seen.target:
        return "succeeded", f"Returned to revision {seen.target}."
    if seen.plan is not None and all(map(seen.ended_well, PIPELINE)):
        return "succeeded", _rolled_out(seen)
    cause = _cause(seen)
    back = seen.step("roll_back")
    if seen.plan is None:
        return "failed", f"{cause} Nothing was changed." if seen.target is None else cause
    if seen.ended_well("watch_live"):
        return "failed", f"Revision {seen.plan.revision_id} serves and passed its bake, but is not tidied up. {cause}"
    if back is not None and back.verdict == "done":
        return "rolled_back", f"{cause} {_sentence(back.summary)}"
    unsure = f" The roll back did not end: {_sentence(back.summary)}" if back else " There was no roll back."
    return "failed", cause + unsure


def _rolled_out(seen: RolloutResult) -> str:
    plan = seen.plan
    if plan is None or plan.already_live:
        return f"Revision {plan.revision_id if plan else ''} was live already: nothing to do."
    before = f" in place of {plan.stable_revision_id}" if plan.stable_revision_id else ", the first deployment"
    return f"Revision {plan.revision_id} (commit {plan.commit}) serves{before}."


def _cause(seen: RolloutResult) -> str:
    failed = _first_failure(seen)
    if failed is not None:
        return f"{failed.step} failed: {_sentence(failed.summary)}"
    steps = ("roll_back",) if seen.target else PIPELINE
    name = next((step for step in steps if not seen.ended_well(step)), steps[-1])
    stopped = seen.step(name)
    if stopped is not None:
        return f"Stopped in {name}, which was at: {_sentence(stopped.summary)}"
    return f"Stopped before {name}: not approved, or stopped by a person."


def _first_failure(seen: RolloutResult) -> StepResult | None:
    failed = [step for step in seen.steps if step.verdict == "fail"]
    return min(failed, key=lambda step: step.started) if failed else None


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."
