"""Look at the cluster until a waiting step has something to do, or has waited long enough."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from functools import cached_property
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from llm_rollout import runner
from llm_rollout.errors import Permanent, Transient
from llm_rollout.ports import Ports
from llm_rollout.rollout import Rollout
from llm_rollout.spec import RolloutSpec
from llm_rollout.verdict import Verdict, Wait
from rollout_airflow import watches
from rollout_airflow.watches import Attendance

FIRST_LOOK_SECONDS = 0.5
"""Sooner, Airflow 3.3 may take the end of the try that waits for the end of the task."""
LOOK_AT_MOST_EVERY_SECONDS = 0.3
"""Controllers change an object several times within moments."""
NOTE_EVERY_SECONDS = 15.0
"""How old a waiting step's progress in the record may be; each note is a write to the API server."""


class AwaitStep(BaseTrigger):
    """Yields ``{"changed", "deadline", "waited_seconds", "until"}`` once, when the step no longer waits.

    It decides nothing: Airflow may run it twice at a time or from the start, and clearing a task ends nothing in the
    cluster. The next try goes on with what is there. All that it writes is how far the wait is, into the record.
    """

    def __init__(self, **asked: Any) -> None:
        """Keep what is asked for; it is stored in Airflow's database, so it holds no secret.

        Args:
            asked: ``step``, ``spec`` (as JSON), ``run_id``, ``attempt``, ``revision``, ``dry_run``, and ``since`` and
                ``until``, in seconds since the epoch.
        """
        super().__init__()  # type: ignore[no-untyped-call]
        self.asked = asked
        self._said, self._noted = "", Wait("")
        self._note_from = time.time() + NOTE_EVERY_SECONDS

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Class path and arguments."""
        return "rollout_airflow.triggers.AwaitStep", dict(self.asked)

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look whenever something of the model has changed, and every few seconds; log what the looks say."""
        await asyncio.sleep(FIRST_LOOK_SECONDS)
        try:
            spec = self.rollout.spec
            async with watches.attend(spec.namespace, (spec.name, spec.service.name)) as attendance:
                while (now := time.time()) < self.asked["until"] and await self._waits(attendance, now):
                    await asyncio.sleep(LOOK_AT_MOST_EVERY_SECONDS)
                    await attendance.change(max(0.0, self.asked["until"] - time.time()))
        except Permanent as error:
            # The task meets the same error and says it.
            self.log.warning("%s", error)
            now = time.time()
        yield self._event(now)

    async def _waits(self, attendance: Attendance, now: float) -> bool:
        """Look once, and say whether the step still waits."""
        try:
            seen: Verdict = await attendance.look(
                lambda ports: runner.look(self.asked["step"], self.rollout, ports, time.time)
            )
            text = progress(seen) if isinstance(seen, Wait) else ""
        except Transient as error:
            seen, text = Wait(str(error)), f"could not look, trying again: {error}"
        if not isinstance(seen, Wait):
            return False
        if text != self._said:
            self.log.info("%s", text)
            self._said = text
        if seen != self._noted and now >= self._note_from:
            self._noted, self._note_from = seen, now + NOTE_EVERY_SECONDS
            await attendance.ask(lambda ports: self._note(ports, seen))
        return True

    @cached_property
    def rollout(self) -> Rollout:
        """What the step is asked to do."""
        asked = self.asked
        spec = RolloutSpec.model_validate(asked["spec"])
        return Rollout(spec, asked["run_id"], asked["attempt"], asked["revision"], dry_run=asked["dry_run"])

    def _note(self, ports: Ports, seen: Wait) -> None:
        try:
            runner.note(self.asked["step"], self.rollout, ports, time.time, seen)
        except (Transient, Permanent) as error:
            self.log.warning("how far it is could not be recorded: %s", error)

    def _event(self, now: float) -> TriggerEvent:
        late = now >= self.asked["until"]
        waited = max(0.0, time.time() - self.asked["since"])
        event = {"changed": not late, "deadline": late, "waited_seconds": waited, "until": self.asked["until"]}
        return TriggerEvent(event)  # type: ignore[no-untyped-call]


def progress(seen: Wait) -> str:
    """What a step waits for and how far it is, in one line, without the state that only a Job goes on from."""
    numbers = ", ".join(f"{name}={value}" for name, value in seen.progress.items() if name != "state")
    return f"waiting: {seen.reason}" + (f" ({numbers})" if numbers else "")
