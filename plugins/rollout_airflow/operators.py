"""One task of a rollout: the verdict of its step becomes the outcome of the task."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, TypeVar

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

from llm_rollout import runner
from llm_rollout.errors import Permanent, Transient
from llm_rollout.ports import Ports
from llm_rollout.rollout import Rollout
from llm_rollout.spec import RolloutSpec
from llm_rollout.spec_problems import masked
from llm_rollout.verdict import Done, Fail, Verdict, Wait
from rollout_airflow import connection
from rollout_airflow.triggers import AwaitStep, progress

Answer = TypeVar("Answer")

PATIENCE_SECONDS = 8.0
"""To defer and come back takes Airflow about three seconds: a wait that is over soon is over sooner in the worker."""
LOOK_EVERY_SECONDS = 0.5
BACKSTOP = timedelta(seconds=60)
"""The trigger keeps the deadline itself and says what it waited for; Airflow's own timeout says nothing."""
RUN_IN_A_DRY_RUN = ("plan_rollout", "conclude")
MOST_EVIDENCE_CHARACTERS = 4000


class RolloutStep(BaseOperator):
    """The step that is called as this task is.

    Done ends the task, Wait defers it, Fail ends it red with cause, remedy and evidence as the last lines of its log.
    What cannot be helped by another try is not tried again.
    """

    template_fields = ()
    ui_color = "#e8f0fe"

    def __init__(self, *, spec: Mapping[str, Any], revision: str | None = None, **kwargs: Any) -> None:
        """Carry out the step ``task_id``.

        Args:
            spec: The model's spec as JSON.
            revision: In place of the run's parameter ``revision``; it is the spec's where neither says one.
            kwargs: For ``BaseOperator``.
        """
        super().__init__(**kwargs)
        self.spec = dict(spec)
        self.revision = revision
        self._ports: Ports | None = None

    def execute(self, context: Any) -> dict[str, Any]:
        """Advance the step.

        Raises:
            AirflowException: The outside did not answer; another try is right.
            AirflowFailException: It failed; another try alone does not help.
            AirflowSkipException: A dry run ends before this step.
            TaskDeferred: It waits.
        """
        rollout = self.rollout(context)
        if rollout.dry_run and self.task_id not in RUN_IN_A_DRY_RUN:
            raise AirflowSkipException("dry run: the plan is all that was asked for")
        return self._go_on(rollout, 0.0, until=None)

    def resume(self, context: Any, event: Mapping[str, Any]) -> dict[str, Any]:
        """Advance the step after its trigger has seen a change, or the deadline. Raises as ``execute`` does."""
        rollout, waited = self.rollout(context), float(event["waited_seconds"])
        if not event["deadline"]:
            return self._go_on(rollout, waited, until=float(event["until"]))
        return self._outcome(
            self._asking(lambda to: runner.past_deadline(self.task_id, rollout, to, time.time, waited))
        )

    def rollout(self, context: Any) -> Rollout:
        """What this task's run is asked to do."""
        params, spec = context["params"], RolloutSpec.model_validate(self.spec)
        run_id = str(context["dag_run"].run_id)
        revision = self.revision or params.get("revision") or spec.model.revision
        attempt = f"{run_id}/{context['ti'].try_number}"
        return Rollout(spec, run_id, attempt, str(revision), dry_run=bool(params.get("dry_run")))

    def _go_on(self, rollout: Rollout, waited: float, until: float | None) -> dict[str, Any]:
        started = time.time()
        end = until or started + runner.deadline_seconds(self.task_id, rollout.spec)
        verdict: Verdict = self._asking(lambda to: runner.advance(self.task_id, rollout, to, time.time, waited))
        since = time.time()
        while isinstance(verdict, Wait) and time.time() < min(end, started + PATIENCE_SECONDS):
            self.log.info("%s", progress(verdict))
            verdict, since = self._patiently(rollout, min(end, started + PATIENCE_SECONDS), since)
        if isinstance(verdict, Wait):
            self._defer(rollout, since, end)
        return self._outcome(verdict)

    def _patiently(self, rollout: Rollout, end: float, since: float) -> tuple[Verdict, float]:
        """Look until there is something to do, do it, and say since when the step waits again."""
        seen: Verdict = Wait("not looked yet")
        while isinstance(seen, Wait):
            if time.time() >= end:
                return seen, since
            time.sleep(LOOK_EVERY_SECONDS)
            seen = self._asking(lambda to: runner.look(self.task_id, rollout, to, time.time))
        waited = time.time() - since
        verdict = self._asking(lambda to: runner.advance(self.task_id, rollout, to, time.time, waited))
        return verdict, time.time()

    def _defer(self, rollout: Rollout, since: float, until: float) -> None:
        trigger = AwaitStep(
            step=self.task_id, spec=self.spec, run_id=rollout.run_id, attempt=rollout.attempt,
            revision=rollout.revision, dry_run=rollout.dry_run, since=since, until=until,
        )  # fmt: skip
        timeout = timedelta(seconds=max(0.0, until - time.time())) + BACKSTOP
        self.defer(trigger=trigger, method_name="resume", timeout=timeout)

    def _asking(self, question: Callable[[Ports], Answer]) -> Answer:
        def ask() -> Answer:
            self._ports = self._ports or connection.ports()
            return question(self._ports)

        return answered(self.task_id, ask)

    def _outcome(self, verdict: Verdict) -> dict[str, Any]:
        if isinstance(verdict, Done):
            log_evidence(self.log, verdict.evidence)
            self.log.info("%s", verdict.summary)
            return {"summary": verdict.summary}
        if not isinstance(verdict, Fail):
            raise TypeError(f"{self.task_id} ended with {type(verdict).__name__}, which is no end")
        log_evidence(self.log, verdict.evidence)
        self.log.error("cause: %s", verdict.cause)
        self.log.error("remedy: %s", verdict.remedy)
        raise AirflowFailException(f"{verdict.cause}\nremedy: {verdict.remedy}")


class RollBack(RolloutStep):
    """``roll_back`` after all other steps: only where one of them did not succeed.

    It waits for every step and then decides, since a step that still runs would build again what this one clears away.
    """

    def execute(self, context: Any) -> dict[str, Any]:
        """Skip after a success; otherwise as every step."""
        ended = self._upstream_states(context)
        if ended and set(ended.values()) == {"success"}:
            raise AirflowSkipException("every step succeeded: there is nothing to roll back")
        return super().execute(context)

    def _upstream_states(self, context: Any) -> dict[str, str]:
        if not self.upstream_task_ids:
            return {}
        task, run_id = context["ti"], str(context["dag_run"].run_id)
        states = task.get_task_states(task.dag_id, task_ids=sorted(self.upstream_task_ids), run_ids=[run_id])
        return {name: str(state) for name, state in states.get(run_id, {}).items()}


def answered(task_id: str, question: Callable[[], Answer], refusal: str = "") -> Answer:
    """The answer of the cluster; a failure to get one becomes the exception that Airflow understands.

    Raises:
        AirflowException: The outside did not answer; another try is right.
        AirflowFailException: It refused; ``refusal`` stands before the reason.
    """
    try:
        return question()
    except Transient as error:
        raise AirflowException(f"{task_id} could not go on: {masked(str(error))}") from error
    except Permanent as error:
        raise AirflowFailException(f"{refusal}{masked(str(error))}") from error


def log_evidence(log: Any, evidence: Mapping[str, Any]) -> None:
    """One line each, cut where it gets too long."""
    for name, value in evidence.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        log.info("evidence: %s: %s", name, text[:MOST_EVIDENCE_CHARACTERS])
