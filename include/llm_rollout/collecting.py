"""Garbage collection of a model store from outside: find what is in use, run the Job, read its report.

As a step it observes, decides and acts, and a task that is run again adopts what is there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from llm_rollout import roots
from llm_rollout.manifests.collect_job import Rules, collect_job, collect_job_name
from llm_rollout.ports import Ports
from llm_rollout.rollout import Rollout
from llm_rollout.spec import RolloutSpec
from llm_rollout.steps import jobs, pod_state
from llm_rollout.steps.jobs import Finished, JobSeen
from llm_rollout.verdict import Act, Done, Fail, Verdict, Wait


@dataclass(frozen=True)
class Asked:
    """What one task is asked to do."""

    spec: RolloutSpec
    """A spec that uses the store: it names the claim, where it is mounted, and the Job's image."""
    neighbours: tuple[RolloutSpec, ...]
    """All specs of its namespace, itself included."""
    rules: Rules
    run_id: str
    attempt: str

    @property
    def job_name(self) -> str:
        """The Job that does it."""
        return collect_job_name(self.spec.store.claim, dry_run=self.rules.dry_run)

    def as_rollout(self) -> Rollout:
        """As what has a Job in common with rollouts knows it."""
        return Rollout(self.spec, self.run_id, self.attempt, "")


@dataclass(frozen=True)
class Seen:
    """The Job; before there is one, what is in use."""

    job: JobSeen
    roots: frozenset[str] = frozenset()


def advance(asked: Asked, ports: Ports, now: Callable[[], float]) -> Done | Wait | Fail:
    """Observe, decide and act until the verdict is not Act.

    Raises:
        Permanent: What is in use cannot be told.
        Transient: The cluster did not answer; calling again is right.
    """
    return jobs.until_settled(f"Job {asked.job_name}", lambda: look(asked, ports, now), act, ports)


def look(asked: Asked, ports: Ports, now: Callable[[], float]) -> Verdict:
    """Observe and decide, and write nothing. Raises as ``advance`` does."""
    return decide(asked, observe(asked, ports), now())


def observe(asked: Asked, ports: Ports) -> Seen:
    """Read the Job; only where it has to be created, what is in use."""
    found = jobs.observe(asked.as_rollout(), ports, asked.job_name)
    if found.job is not None:
        return Seen(found)
    return Seen(found, roots.in_use(asked.neighbours, asked.spec.store.claim, ports))


def decide(asked: Asked, seen: Seen, now: float) -> Verdict:
    """One Job a run; it is created with the roots that were read just before, and never compared with later ones."""
    job, run = seen.job.job, asked.as_rollout()
    if job is None:
        wanted = collect_job(asked.spec, seen.roots, asked.rules, asked.attempt)
        return Act(f"start Job {asked.job_name}", jobs.Create((wanted,)))
    if jobs.run_of(job) != asked.run_id and not pod_state.is_going(job):
        return jobs.replace(job, "is of an earlier run")
    outcome = jobs.settle(run, seen.job, (job,), now)
    return _told(asked, outcome) if isinstance(outcome, Finished) else outcome


act = jobs.act


def _told(asked: Asked, outcome: Finished) -> Done | Fail:
    report = outcome.report
    if not report:
        return Fail(f"Job {asked.job_name} ended without a report: its output is gone", "clear this task", {})
    gone, would = len(report["commits_removed"]), "would be " if asked.rules.dry_run else ""
    return Done(
        f"store {asked.spec.store.claim}: {gone} commits and {report['bytes_freed']} bytes {would}removed, "
        f"{report['commits_kept']} commits and {report['bytes_kept']} bytes kept",
        dict(report),
    )
