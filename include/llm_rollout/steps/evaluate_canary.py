"""The candidate is not worse than stable; a first deployment meets the spec's absolute limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llm_rollout.manifests.canary_job import canary_job
from llm_rollout.ports import Manifest, Ports
from llm_rollout.rollout import Rollout
from llm_rollout.steps import jobs
from llm_rollout.steps.jobs import Finished, JobSeen
from llm_rollout.verdict import Done, Fail, Verdict


def observe(rollout: Rollout, ports: Ports) -> JobSeen:
    """Read the Job of this run's comparison."""
    return jobs.observe(rollout, ports, _job(rollout)["metadata"]["name"])


def decide(rollout: Rollout, seen: JobSeen, now: float) -> Verdict:
    """Promote is done; everything else stops the rollout, and a bad result of an earlier try is measured again."""
    outcome = jobs.settle(rollout, seen, (_job(rollout),), now)
    if not isinstance(outcome, Finished):
        return outcome
    verdict = _judge(rollout, outcome.report)
    again = isinstance(verdict, Fail) and not outcome.this_try
    return jobs.replace(outcome.job, "judged in an earlier try") if again else verdict


act = jobs.act


def _job(rollout: Rollout) -> Manifest:
    return canary_job(rollout.spec, rollout.planned, rollout.run_id, rollout.attempt)


def _judge(rollout: Rollout, report: Mapping[str, Any]) -> Done | Fail:
    if not report:
        return Fail("the Job ended without a report: its output is gone", "clear this task: it compares again")
    evidence, sentence = dict(report), report["sentence"]
    if report["decision"] == "promote":
        return Done(sentence, evidence)
    if report["decision"] == "rollback":
        return Fail(
            f"the candidate {rollout.planned.revision_id} is worse ({report['metric']}): {sentence}",
            "stable keeps serving; compare the answers in the evidence, then roll another revision out",
            evidence,
        )
    return Fail(
        f"not enough evidence after {report['pairs']} pairs: {sentence}",
        f"stable keeps serving; roll out again with canary.max_pairs above {rollout.spec.canary.max_pairs}, "
        "or with wider margins if smaller differences do not matter",
        evidence,
    )
