"""What the page says of a model, derived from its record. Pure; no text leaves here with a secret in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from llm_rollout.record import Record, Revision, RolloutResult, StepResult
from llm_rollout.spec import RolloutSpec
from llm_rollout.spec_problems import masked
from rollout_airflow import specs
from rollout_airflow.page.mounting import dag_address, run_address, task_address

SHOWN_ROLLOUTS = 8
"""The newest of the record's 20: one glance, and a page of a dozen models stays a few hundred kilobytes."""

Outcome = Literal["running", "succeeded", "rolled_back", "failed", "interrupted"]


@dataclass(frozen=True)
class RevisionView:
    """A deployed revision."""

    revision_id: str
    commit: str
    lws: str


@dataclass(frozen=True)
class StepView:
    """One step of a rollout. Times are in seconds, moments since the epoch."""

    step: str
    verdict: Literal["done", "wait", "fail"]
    summary: str
    remedy: str
    started: float
    seconds: float
    """Up to now for a step that is at work."""
    waited_seconds: float
    """Never more than ``seconds``."""
    at_work: bool
    href: str
    """The task in Airflow."""

    @property
    def state(self) -> Literal["done", "failed", "at work", "stopped"]:
        """How it stands, in words: what waits in a rollout that has ended was stopped."""
        if self.verdict == "wait":
            return "at work" if self.at_work else "stopped"
        return "done" if self.verdict == "done" else "failed"


@dataclass(frozen=True)
class RolloutView:
    """One rollout, or one return to the previous revision."""

    run_id: str
    revision: str
    is_return: bool
    outcome: Outcome
    reason: str
    started: float
    seconds: float
    steps: tuple[StepView, ...]
    """In the order in which they began."""
    href: str
    """The run in Airflow."""

    @property
    def at_work(self) -> tuple[StepView, ...]:
        """The steps that are going on."""
        return tuple(step for step in self.steps if step.at_work)


@dataclass(frozen=True)
class FailureView:
    """Why a rollout did not happen, and what to do about it."""

    run_id: str
    step: str
    reason: str
    remedy: str
    at: float
    """Seconds since the epoch."""
    href: str
    """The task that failed, or the run where no task did."""


@dataclass(frozen=True)
class ModelView:
    """One model. ``problem`` says why its record could not be read; what was not read is empty then."""

    name: str
    repo: str
    namespace: str
    service: str
    dag_id: str
    href: str
    """Its DAG in Airflow."""
    problem: str = ""
    current: RevisionView | None = None
    previous: RevisionView | None = None
    running: RolloutView | None = None
    last_failure: FailureView | None = None
    rollouts: tuple[RolloutView, ...] = ()
    """Newest first, the running one included."""


def unread(spec: RolloutSpec, problem: str) -> ModelView:
    """A model whose record could not be read."""
    dag_id = specs.dag_id("roll_out", spec)
    return ModelView(
        name=spec.name, repo=spec.model.repo, namespace=spec.namespace, service=spec.service.name,
        dag_id=dag_id, href=dag_address(dag_id), problem=masked(problem),
    )  # fmt: skip


def model(spec: RolloutSpec, found: Record, now: float) -> ModelView:
    """A model as its record shows it; ``now`` in seconds since the epoch."""
    bare = unread(spec, "")
    newest_first = found.rollouts[::-1]
    rollouts = tuple(_rollout(spec, one, now, newest=one is newest_first[0]) for one in newest_first)
    return ModelView(
        name=bare.name, repo=bare.repo, namespace=bare.namespace, service=bare.service,
        dag_id=bare.dag_id, href=bare.href,
        current=_revision(found.current),
        previous=_revision(found.previous),
        running=next((one for one in rollouts if one.outcome == "running"), None),
        last_failure=next((told for told in map(_failure, rollouts) if told), None),
        rollouts=rollouts[:SHOWN_ROLLOUTS],
    )  # fmt: skip


def _revision(found: Revision | None) -> RevisionView | None:
    return RevisionView(found.revision_id, found.commit, found.lws) if found else None


def _rollout(spec: RolloutSpec, entry: RolloutResult, now: float, *, newest: bool) -> RolloutView:
    outcome: Outcome = entry.outcome or ("running" if newest else "interrupted")
    kind = "roll_out" if entry.target is None else "roll_back"
    dag_id = specs.dag_id(kind, spec)
    steps = sorted(entry.steps, key=lambda one: one.started)
    end = entry.ended or (now if outcome == "running" else max((_end(one) for one in steps), default=entry.started))
    return RolloutView(
        run_id=entry.run_id,
        revision=masked(entry.revision),
        is_return=entry.target is not None,
        outcome=outcome,
        reason=masked(entry.reason),
        started=entry.started,
        seconds=max(end - entry.started, 0.0),
        steps=tuple(_step(one, task_address(dag_id, entry.run_id, one.step), end, outcome) for one in steps),
        href=run_address(dag_id, entry.run_id),
    )


def _step(result: StepResult, href: str, end: float, outcome: Outcome) -> StepView:
    at_work = result.ended is None and outcome == "running"
    seconds = max((end if at_work else _end(result)) - result.started, 0.0)
    # A step that is at work has waited since it last wrote, and has not told so yet.
    waited = seconds if at_work and result.verdict == "wait" else min(result.waited_seconds, seconds)
    return StepView(
        step=result.step, verdict=result.verdict, summary=masked(result.summary), remedy=masked(result.remedy),
        started=result.started, seconds=seconds, waited_seconds=waited, at_work=at_work, href=href,
    )  # fmt: skip


def _end(result: StepResult) -> float:
    """When a step ended; for one that was stopped, as far as it is known to have come."""
    return result.ended if result.ended is not None else result.started + result.waited_seconds


def _failure(rollout: RolloutView) -> FailureView | None:
    failed = next((step for step in rollout.steps if step.verdict == "fail"), None)
    if failed is None and rollout.outcome not in {"failed", "rolled_back"}:
        return None
    return FailureView(
        run_id=rollout.run_id,
        step=failed.step if failed else "",
        reason=rollout.reason or (failed.summary if failed else ""),
        remedy=failed.remedy if failed else "",
        at=failed.started + failed.seconds if failed else rollout.started + rollout.seconds,
        href=failed.href if failed else rollout.href,
    )
