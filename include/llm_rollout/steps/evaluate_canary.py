"""The candidate is not worse than stable; a first deployment meets the spec's absolute limits.

A Job that dies in mid-comparison is replaced by one that goes on with the same pots. Where they stand is in its last
line of progress; it is in the record before that Job, and with it its log, is deleted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from llm_rollout import record
from llm_rollout.canary import resumption
from llm_rollout.canary.trail import Trail
from llm_rollout.manifests.canary_job import canary_job, resumed_from
from llm_rollout.ports import Manifest, Ports
from llm_rollout.record import Record, StepResult
from llm_rollout.rollout import Rollout
from llm_rollout.steps import jobs, kept_files, pod_state
from llm_rollout.steps.jobs import Delete, Finished, JobSeen
from llm_rollout.verdict import Act, Done, Fail, Verdict, Wait

_STEP = "evaluate_canary"
_STATE = "state"
"""In the Job's lines and in this step's evidence: where an undecided comparison stands."""


@dataclass(frozen=True)
class Seen:
    """The Job of this run's comparison, and the state that the record holds of it."""

    job: JobSeen
    kept: str = ""
    chart: str = ""
    """Where the picture of the pots lies, once there is one."""

    @property
    def state(self) -> str:
        """The newest: what the Job printed is newer than what was noted of it."""
        return str(self.job.output.progress.get(_STATE, "")) or self.kept


@dataclass(frozen=True)
class Keep:
    """A state to write into the record of a run."""

    rollout: Rollout
    state: str
    now: float
    """Seconds since the epoch: when it was seen."""


def observe(rollout: Rollout, ports: Ports) -> Seen:
    """Read the Job of this run's comparison and what the record says of it."""
    found = record.load(ports.cluster, rollout.spec.namespace, rollout.spec.name).run(rollout.run_id)
    noted = found.step(_STEP) if found else None
    kept = str(noted.evidence.get(_STATE, "")) if noted else ""
    return Seen(jobs.observe(rollout, ports, _job(rollout)["metadata"]["name"]), kept)


def keep(rollout: Rollout, seen: Seen, ports: Ports) -> Seen:
    """Draw the pots over the rounds, anew after each of them, and say where the picture lies."""
    trail, canary = _trail(seen), rollout.spec.canary
    if trail is None:
        return seen
    picture = partial(trail.draw, canary.alpha, canary.beta, f"rounds of {canary.round_pairs} pairs")
    path = rollout.evidence_path(f"{_STEP}.svg")
    return replace(seen, chart=kept_files.put(ports, path, trail.as_json(), picture))


def decide(rollout: Rollout, seen: Seen, now: float) -> Verdict:
    """Promote is done; everything else stops the rollout, and a bad result of an earlier try is measured again."""
    outcome = jobs.settle(rollout, seen.job, (_job(rollout, seen.kept),), now)
    if isinstance(outcome, Finished):
        verdict = _judge(rollout, outcome.report, seen.chart)
        again = isinstance(verdict, Fail) and not outcome.this_try
        return jobs.replace(outcome.job, "judged in an earlier try") if again else verdict
    if isinstance(outcome, Fail):
        outcome = _going_on(seen) or outcome
    if isinstance(outcome, Act):
        return _kept_first(rollout, seen, outcome, now)
    return _with_state(outcome, seen.state)


def act(plan: object, ports: Ports) -> None:
    """Write a state into the record, or start or delete the Job."""
    if isinstance(plan, Keep):
        spec = plan.rollout.spec
        record.update(ports.cluster, spec.namespace, spec.name, lambda found: _holding(found, plan))
    else:
        jobs.act(plan, ports)


def _trail(seen: Seen) -> Trail | None:
    """What the report says, and until there is one what the newest state says."""
    try:
        if found := seen.job.output.report.get("trail"):
            return Trail.from_json(found)
        return resumption.read(seen.state).trail if seen.state else None
    except ValueError:
        return None


def _job(rollout: Rollout, state: str = "") -> Manifest:
    return canary_job(rollout.spec, rollout.planned, rollout.run_id, rollout.attempt, state)


def _going_on(seen: Seen) -> Act | None:
    """Replace a Job that failed after it had come further than where it began; one that had not would fail again."""
    job = seen.job.job
    if job is None or not pod_state.holds(job, "Failed") or seen.state in ("", resumed_from(job)):
        return None
    return jobs.replace(job, "ended in mid-comparison; the next one goes on with its pots")


def _kept_first(rollout: Rollout, seen: Seen, acting: Act, now: float) -> Act:
    """A Job is deleted with its log, so the record has to hold the state before."""
    if isinstance(acting.plan, Delete) and seen.state != seen.kept:
        return Act("note where the interrupted comparison stands", Keep(rollout, seen.state, now))
    return acting


def _holding(found: Record, plan: Keep) -> Record:
    """The record with the state in this step's evidence, whatever else is said of the step."""
    entry = found.run(plan.rollout.run_id)
    noted = entry.step(_STEP) if entry else None
    if noted is None:
        noted = StepResult(step=_STEP, verdict="wait", summary="the comparison was interrupted", started=plan.now)
    evidence = {**noted.evidence, _STATE: plan.state}
    return found.with_step(plan.rollout.run_id, noted.model_copy(update={"evidence": evidence}))


def _with_state(outcome: Wait | Fail, state: str) -> Wait | Fail:
    """What is said of this step takes the place of what was said before, so it carries the state on."""
    if not state:
        return outcome
    if isinstance(outcome, Wait):
        return replace(outcome, progress={**outcome.progress, _STATE: state})
    return replace(outcome, evidence={**outcome.evidence, _STATE: state})


def _judge(rollout: Rollout, report: Mapping[str, Any], chart: str) -> Done | Fail:
    if "decision" not in report:
        return Fail("the Job ended without a report: its output is gone", "clear this task: it compares again")
    evidence, sentence = {**report, **({"chart": chart} if chart else {})}, report["sentence"]
    if report["decision"] == "promote":
        return Done(sentence, evidence)
    if report["decision"] == "rollback":
        return Fail(
            f"the candidate {rollout.planned.revision_id} is worse ({report['metric']}): {sentence}",
            "stable keeps serving; compare the answers in the evidence, then roll another revision out",
            evidence,
        )
    return Fail(f"not enough evidence after {report['pairs']} pairs: {sentence}", _more(rollout, report), evidence)


def _more(rollout: Rollout, report: Mapping[str, Any]) -> str:
    if _STATE in report:
        return "stable keeps serving; clear this task: it goes on with the same pots for another deadline_seconds"
    return (
        f"stable keeps serving; roll out again with canary.max_pairs above {rollout.spec.canary.max_pairs}, "
        "or with wider margins if smaller differences do not matter"
    )
