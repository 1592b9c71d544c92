"""What tasks outside of a rollout have in common: they run one Job, wait for it deferred, and tell its report."""

from __future__ import annotations

import asyncio
import time
from abc import abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import timedelta
from typing import Any, ClassVar

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException
from airflow.triggers.base import BaseTrigger, TriggerEvent

from llm_rollout.errors import Permanent, Transient
from llm_rollout.ports import Ports
from llm_rollout.verdict import Done, Fail, Verdict, Wait
from rollout_airflow import connection
from rollout_airflow.operators import BACKSTOP, answered, log_evidence
from rollout_airflow.triggers import FIRST_LOOK_SECONDS, progress

LOOK_EVERY_SECONDS = 5.0
"""So long a rollout may have to wait for what such a Job holds when it begins."""


class AwaitJob(BaseTrigger):
    """Yields ``{"until"}`` once, when there is something to do or it is ``until``. It only reads."""

    def __init__(self, *, until: float, **asked: Any) -> None:
        """Keep what the operator was asked, and until when to look, in seconds since the epoch."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.until = until
        self.asked = asked

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Class path and arguments."""
        return f"{type(self).__module__}.{type(self).__qualname__}", {"until": self.until, **self.asked}

    @abstractmethod
    def look(self) -> Callable[[Ports], Verdict]:
        """How to look at the cluster, once everything else that is needed for it has been read."""

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look every few seconds; log what changes."""
        await asyncio.sleep(FIRST_LOOK_SECONDS)
        said, look = "", await asyncio.to_thread(self.look)
        while time.time() < self.until:
            try:
                ports = await connection.trigger_ports()
                seen: Verdict = await asyncio.to_thread(look, ports)
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


class JobTask(BaseOperator):
    """Starts a Job or adopts it, and ends as its report says."""

    template_fields = ()
    trigger: ClassVar[type[AwaitJob]]
    refusal: ClassVar[str] = ""
    """What stands before the reason when the cluster refuses."""

    def __init__(self, *, spec: Mapping[str, Any], **kwargs: Any) -> None:
        """Keep ``spec``, as JSON; the rest is for ``BaseOperator``."""
        super().__init__(**kwargs)
        self.spec = dict(spec)

    @abstractmethod
    def asked(self, context: Any) -> dict[str, Any]:
        """What this task's run is asked to do, as the trigger keeps it."""

    @abstractmethod
    def advance(self, asked: dict[str, Any], ports: Ports) -> Done | Wait | Fail:
        """Do what there is to do."""

    def resume(self, context: Any, event: Mapping[str, Any]) -> dict[str, Any]:
        """Go on after the trigger has seen a change. Raises as ``execute`` does."""
        return self.go_on(context, float(event["until"]))

    def go_on(self, context: Any, until: float) -> dict[str, Any]:
        """Advance, then defer or end; ``until`` is in seconds since the epoch."""
        asked = self.asked(context)
        verdict = answered(self.task_id, lambda: self.advance(asked, connection.ports()), self.refusal)
        if isinstance(verdict, Wait) and time.time() < until:
            timeout = timedelta(seconds=max(0.0, until - time.time())) + BACKSTOP
            self.defer(trigger=self.trigger(until=until, **asked), method_name="resume", timeout=timeout)
        if isinstance(verdict, Wait):
            verdict = Fail(f"not done in time, and still: {verdict.reason}", "look at the Job, then clear this task")
        return self.outcome(verdict)

    def outcome(self, verdict: Done | Fail) -> dict[str, Any]:
        """Say it; a Fail is raised, with its remedy as the last line."""
        log_evidence(self.log, verdict.evidence)
        if isinstance(verdict, Fail):
            raise AirflowFailException(f"{verdict.cause}\nremedy: {verdict.remedy}")
        self.log.info("%s", verdict.summary)
        return {"summary": verdict.summary}


def attempt(context: Any) -> dict[str, str]:
    """Which run and which try of it this is."""
    run_id = str(context["dag_run"].run_id)
    return {"run_id": run_id, "attempt": f"{run_id}/{context['ti'].try_number}"}
