"""Measurements of idle nodes: one task a model."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from airflow.sdk.exceptions import AirflowSkipException

from llm_rollout import idle_fabric
from llm_rollout.idle_fabric import Asked
from llm_rollout.ports import Ports
from llm_rollout.spec import RolloutSpec
from llm_rollout.verdict import Done, Fail, Verdict, Wait
from rollout_airflow import specs
from rollout_airflow.job_tasks import AwaitJob, JobTask, attempt

SLACK_SECONDS = 300
"""On top of the measurement's own deadline: images, and a rollout that comes between."""


class AwaitMeasurement(AwaitJob):
    """Waits for the Job to end, or for a rollout that goes first."""

    def look(self) -> Callable[[Ports], Verdict]:
        """See ``AwaitJob``."""
        asked = understood(self.asked)
        return lambda ports: idle_fabric.look(asked, ports, time.time)


class ValidateFabric(JobTask):
    """Measure the fabric between nodes that could take the model and are idle; skipped where there is no such pair."""

    trigger = AwaitMeasurement

    def execute(self, context: Any) -> dict[str, Any]:
        """Start the Job, or adopt this try's.

        Raises:
            AirflowException: The cluster did not answer; another try is right.
            AirflowFailException: The fabric is not fit, or that could not be told.
            AirflowSkipException: A rollout goes first, or fewer than two nodes are idle.
            TaskDeferred: The Job runs.
        """
        deadline = RolloutSpec.model_validate(self.spec).fabric.deadline_seconds + SLACK_SECONDS
        return self.go_on(context, time.time() + deadline)

    def asked(self, context: Any) -> dict[str, Any]:
        """See ``JobTask``."""
        return {"spec": self.spec, **attempt(context)}

    def advance(self, asked: dict[str, Any], ports: Ports) -> Done | Wait | Fail:
        """See ``JobTask``."""
        return idle_fabric.advance(understood(asked), ports, time.time)

    def outcome(self, verdict: Done | Fail) -> dict[str, Any]:
        """As every Job's; where nothing was measured the task is skipped."""
        told = super().outcome(verdict)
        if verdict.evidence.get("skipped"):
            raise AirflowSkipException(told["summary"])
        return told


def understood(asked: Mapping[str, Any]) -> Asked:
    """What the library takes. Specs that cannot be read have no DAG, so no rollout of theirs begins."""
    spec = RolloutSpec.model_validate(asked["spec"])
    others = [one for one in specs.load()[0] if one.name != spec.name]
    return Asked(spec, (spec, *others), asked["run_id"], asked["attempt"])
