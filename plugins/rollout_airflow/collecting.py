"""Garbage collection of model stores: one task looks, one removes."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, TypeVar

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException
from airflow.triggers.base import BaseTrigger, TriggerEvent

from llm_rollout import collecting
from llm_rollout.collecting import Asked
from llm_rollout.errors import Permanent, Transient
from llm_rollout.manifests.collect_job import DEADLINE_SECONDS, Rules
from llm_rollout.ports import Ports
from llm_rollout.spec import RolloutSpec
from llm_rollout.spec_problems import masked
from llm_rollout.verdict import Done, Fail, Verdict, Wait
from rollout_airflow import connection, specs
from rollout_airflow.operators import BACKSTOP
from rollout_airflow.triggers import FIRST_LOOK_SECONDS, progress

Answer = TypeVar("Answer")

LOOK_EVERY_SECONDS = 5.0


class CollectGarbage(BaseOperator):
    """Run the Job that collects on one store, or only says what would go.

    What is in use is read from the cluster right before the Job starts. Where anything of it cannot be read, nothing is
    removed and the task is red with the reason.
    """

    template_fields = ()

    def __init__(self, *, spec: Mapping[str, Any], looks_only: bool, **kwargs: Any) -> None:
        """Collect on one store.

        Args:
            spec: A spec that uses the store, as JSON.
            looks_only: Only say what would go; else a run that is a dry run skips this task.
            kwargs: For ``BaseOperator``.
        """
        super().__init__(**kwargs)
        self.spec = dict(spec)
        self.looks_only = looks_only

    def execute(self, context: Any) -> dict[str, Any]:
        """Start the Job, or adopt this run's.

        Raises:
            AirflowException: The cluster did not answer; another try is right.
            AirflowFailException: What is in use cannot be told, or the Job failed.
            AirflowSkipException: A dry run ends before this task.
            TaskDeferred: The Job runs.
        """
        if context["params"]["dry_run"] and not self.looks_only:
            raise AirflowSkipException("dry run: what would go is all that was asked for")
        return self._go_on(self.asked(context), time.time() + DEADLINE_SECONDS)

    def resume(self, context: Any, event: Mapping[str, Any]) -> dict[str, Any]:
        """Go on after the trigger has seen a change. Raises as ``execute`` does."""
        return self._go_on(self.asked(context), float(event["until"]))

    def asked(self, context: Any) -> dict[str, Any]:
        """What this task's run is asked to do, as the trigger keeps it."""
        params, run_id = context["params"], str(context["dag_run"].run_id)
        return {
            "spec": self.spec,
            "keep": int(params["keep"]),
            "grace_seconds": round(float(params["grace_hours"]) * 3600),
            "dry_run": self.looks_only,
            "run_id": run_id,
            "attempt": f"{run_id}/{context['ti'].try_number}",
        }

    def _go_on(self, asked: dict[str, Any], until: float) -> dict[str, Any]:
        every = neighbours(RolloutSpec.model_validate(self.spec))
        verdict = self._asking(lambda ports: collecting.advance(understood(asked, every), ports, time.time))
        if isinstance(verdict, Wait) and time.time() < until:
            timeout = timedelta(seconds=max(0.0, until - time.time())) + BACKSTOP
            self.defer(trigger=AwaitCollection(until=until, **asked), method_name="resume", timeout=timeout)
        if isinstance(verdict, Wait):
            verdict = Fail(f"not done in time, and still: {verdict.reason}", "look at the Job, then clear this task")
        return self._outcome(verdict)

    def _asking(self, question: Callable[[Ports], Answer]) -> Answer:
        try:
            return question(connection.ports())
        except Transient as error:
            raise AirflowException(f"{self.task_id} could not go on: {masked(str(error))}") from error
        except Permanent as error:
            raise AirflowFailException(f"nothing was removed: {masked(str(error))}") from error

    def _outcome(self, verdict: Done | Fail) -> dict[str, Any]:
        for name, value in verdict.evidence.items():
            self.log.info("evidence: %s: %s", name, json.dumps(value, ensure_ascii=False))
        if isinstance(verdict, Fail):
            raise AirflowFailException(f"{verdict.cause}\nremedy: {verdict.remedy}")
        self.log.info("%s", verdict.summary)
        return {"summary": verdict.summary}


class AwaitCollection(BaseTrigger):
    """Yields ``{"until"}`` once, when the Job has ended or it is ``until``. It only reads."""

    def __init__(self, *, until: float, **asked: Any) -> None:
        """Keep what the operator was asked, and until when to look, in seconds since the epoch."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.until = until
        self.asked = asked

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Class path and arguments."""
        return "rollout_airflow.collecting.AwaitCollection", {"until": self.until, **self.asked}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look every few seconds; log what changes."""
        await asyncio.sleep(FIRST_LOOK_SECONDS)
        said = ""
        while time.time() < self.until:
            try:
                ports = await connection.trigger_ports()
                seen: Verdict = await asyncio.to_thread(collecting.look, understood(self.asked), ports, time.time)
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


def understood(asked: Mapping[str, Any], every: Sequence[RolloutSpec] = ()) -> Asked:
    """What the library takes; ``every`` spec of the namespace is needed only to start a Job."""
    spec = RolloutSpec.model_validate(asked["spec"])
    rules = Rules(asked["keep"], asked["grace_seconds"], asked["dry_run"])
    return Asked(spec, tuple(every) or (spec,), rules, asked["run_id"], asked["attempt"])


def neighbours(spec: RolloutSpec) -> list[RolloutSpec]:
    """All specs of the namespace as their files are now.

    Raises:
        AirflowFailException: A file cannot be read: its model may use the store.
    """
    found, problems = specs.load()
    if problems:
        raise AirflowFailException(
            "nothing was removed, because these models may use the store and their specs cannot be read; put them "
            "right, then clear this task:\n" + "\n".join(map(str, problems))
        )
    return [one for one in found if one.namespace == spec.namespace]
