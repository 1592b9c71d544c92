"""Measurements of idle nodes: one task a model."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from typing import Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException
from airflow.triggers.base import BaseTrigger, TriggerEvent

from llm_rollout import idle_fabric
from llm_rollout.errors import Permanent, Transient
from llm_rollout.idle_fabric import Asked
from llm_rollout.spec import RolloutSpec
from llm_rollout.spec_problems import masked
from llm_rollout.verdict import Done, Fail, Verdict, Wait
from rollout_airflow import connection, specs
from rollout_airflow.operators import BACKSTOP, MOST_EVIDENCE_CHARACTERS
from rollout_airflow.triggers import FIRST_LOOK_SECONDS, progress

LOOK_EVERY_SECONDS = 5.0
"""So long a rollout may have to wait for nodes that are being measured when it begins."""
SLACK_SECONDS = 300
"""On top of the measurement's own deadline: images, and a rollout that comes between."""


class ValidateFabric(BaseOperator):
    """Measure the fabric between nodes that could take the model and are idle; skipped where there is no such pair."""

    template_fields = ()

    def __init__(self, *, spec: Mapping[str, Any], **kwargs: Any) -> None:
        """Measure as the model's rollout would.

        Args:
            spec: The model's spec as JSON.
            kwargs: For ``BaseOperator``.
        """
        super().__init__(**kwargs)
        self.spec = dict(spec)

    def execute(self, context: Any) -> dict[str, Any]:
        """Start the Job, or adopt this try's.

        Raises:
            AirflowException: The cluster did not answer; another try is right.
            AirflowFailException: The fabric is not fit, or that could not be told.
            AirflowSkipException: A rollout goes first, or fewer than two nodes are idle.
            TaskDeferred: The Job runs.
        """
        deadline = RolloutSpec.model_validate(self.spec).fabric.deadline_seconds + SLACK_SECONDS
        return self._go_on(self.asked(context), time.time() + deadline)

    def resume(self, context: Any, event: Mapping[str, Any]) -> dict[str, Any]:
        """Go on after the trigger has seen a change. Raises as ``execute`` does."""
        return self._go_on(self.asked(context), float(event["until"]))

    def asked(self, context: Any) -> dict[str, Any]:
        """What this task's run is asked to do, as the trigger keeps it."""
        run_id = str(context["dag_run"].run_id)
        return {"spec": self.spec, "run_id": run_id, "attempt": f"{run_id}/{context['ti'].try_number}"}

    def _go_on(self, asked: dict[str, Any], until: float) -> dict[str, Any]:
        try:
            verdict = idle_fabric.advance(understood(asked), connection.ports(), time.time)
        except Transient as error:
            raise AirflowException(f"{self.task_id} could not go on: {masked(str(error))}") from error
        except Permanent as error:
            raise AirflowFailException(masked(str(error))) from error
        if isinstance(verdict, Wait) and time.time() < until:
            timeout = timedelta(seconds=max(0.0, until - time.time())) + BACKSTOP
            self.defer(trigger=AwaitMeasurement(until=until, **asked), method_name="resume", timeout=timeout)
        if isinstance(verdict, Wait):
            verdict = Fail(f"not done in time, and still: {verdict.reason}", "look at the Job, then clear this task")
        return self._outcome(verdict)

    def _outcome(self, verdict: Done | Fail) -> dict[str, Any]:
        for name, value in verdict.evidence.items():
            self.log.info("evidence: %s: %s", name, json.dumps(value, ensure_ascii=False)[:MOST_EVIDENCE_CHARACTERS])
        if isinstance(verdict, Fail):
            raise AirflowFailException(f"{verdict.cause}\nremedy: {verdict.remedy}")
        if verdict.evidence.get("skipped"):
            raise AirflowSkipException(verdict.summary)
        self.log.info("%s", verdict.summary)
        return {"summary": verdict.summary}


class AwaitMeasurement(BaseTrigger):
    """Yields ``{"until"}`` once, when there is something to do or it is ``until``. It only reads."""

    def __init__(self, *, until: float, **asked: Any) -> None:
        """Keep what the operator was asked, and until when to look, in seconds since the epoch."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.until = until
        self.asked = asked

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Class path and arguments."""
        return "rollout_airflow.validating.AwaitMeasurement", {"until": self.until, **self.asked}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look every few seconds; log what changes."""
        await asyncio.sleep(FIRST_LOOK_SECONDS)
        said, asked = "", await asyncio.to_thread(understood, self.asked)
        while time.time() < self.until:
            try:
                ports = await connection.trigger_ports()
                seen: Verdict = await asyncio.to_thread(idle_fabric.look, asked, ports, time.time)
            except Transient as error:
                seen = Wait(f"could not look, trying again: {error}")
            except Permanent as error:
                self.log.warning("%s", error)
                break  # The task meets the same error and says it.
            if not isinstance(seen, Wait):
                break
            if progress(seen) != said:
                said = progress(seen)
                self.log.info("%s", said)
            await asyncio.sleep(LOOK_EVERY_SECONDS)
        yield TriggerEvent({"until": self.until})  # type: ignore[no-untyped-call]


def understood(asked: Mapping[str, Any]) -> Asked:
    """What the library takes. Specs that cannot be read have no DAG, so no rollout of theirs begins."""
    spec = RolloutSpec.model_validate(asked["spec"])
    others = [one for one in specs.load()[0] if one.name != spec.name]
    return Asked(spec, (spec, *others), asked["run_id"], asked["attempt"])
