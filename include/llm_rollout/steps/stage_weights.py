"""The commit's files are on the model store, every byte verified."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llm_rollout import names
from llm_rollout.manifests.stage_job import stage_job
from llm_rollout.ports import Ports
from llm_rollout.rollout import Rollout
from llm_rollout.steps import jobs
from llm_rollout.steps.jobs import Finished, JobSeen
from llm_rollout.verdict import Done, Verdict, Wait


def observe(rollout: Rollout, ports: Ports) -> JobSeen:
    """Read the Job of the plan's commit."""
    return jobs.observe(rollout, ports, names.stage_job_name(rollout.spec.name, rollout.planned.commit))


def decide(rollout: Rollout, seen: JobSeen, now: float) -> Verdict:
    """A Job of this run that succeeded is the proof: the store publishes a commit only when it is whole.

    One of an earlier run proves nothing any more: the commit may have been collected since. Staged again where it is,
    it takes no time and is safe from collection for another while.
    """
    commit = rollout.planned.commit
    outcome = jobs.settle(rollout, seen, (stage_job(rollout.spec, commit, rollout.attempt),), now)
    if isinstance(outcome, Wait):
        return Wait(outcome.reason + _how_far(outcome.progress), outcome.progress)
    if not isinstance(outcome, Finished):
        return outcome
    if not outcome.this_run:
        return jobs.replace(outcome.job, "staged for an earlier run")
    report = outcome.report
    if not report:
        return Done(f"commit {commit} is staged", {"commit": commit, "job": outcome.job["metadata"]["name"]})
    return Done(
        f"commit {commit}: {report['files']} files, {report['bytes_total']} bytes on the store, "
        f"{report['bytes_fetched']} fetched in {report['seconds']:.1f} s",
        dict(report),
    )


def _how_far(progress: Mapping[str, Any]) -> str:
    """What people ask of a long copy, from the last progress line."""
    if "waiting_for" in progress:
        return f": waits for {progress['waiting_for']}"
    if not progress.get("bytes_total"):
        return ""
    done, total, rate = (progress[name] / 1e9 for name in ("bytes_done", "bytes_total", "bytes_per_second"))
    left = progress.get("eta_seconds")
    until = f", {left / 60:.0f} min left" if left is not None else ""
    return f": {done:.1f} of {total:.1f} GB ({100 * done / total:.0f} %), {rate:.2f} GB/s{until}"


act = jobs.act
