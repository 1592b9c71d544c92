"""Garbage collection of model stores: one task looks, one removes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from llm_rollout import collecting
from llm_rollout.collecting import Asked
from llm_rollout.manifests.collect_job import DEADLINE_SECONDS, Rules
from llm_rollout.ports import Ports
from llm_rollout.spec import RolloutSpec
from llm_rollout.verdict import Done, Fail, Verdict, Wait
from rollout_airflow import specs
from rollout_airflow.job_tasks import AwaitJob, JobTask, attempt


class AwaitCollection(AwaitJob):
    """Waits for the Job to end."""

    def look(self) -> Callable[[Ports], Verdict]:
        """See ``AwaitJob``."""
        asked = understood(self.asked)
        return lambda ports: collecting.look(asked, ports, time.time)


class CollectGarbage(JobTask):
    """Run the Job that collects on one store, or only says what would go.

    What is in use is read from the cluster right before the Job starts. Where anything of it cannot be read, nothing is
    removed and the task is red with the reason.
    """

    trigger = AwaitCollection
    refusal = "nothing was removed: "

    def __init__(self, *, spec: Mapping[str, Any], looks_only: bool, **kwargs: Any) -> None:
        """Collect on one store.

        Args:
            spec: A spec that uses the store, as JSON.
            looks_only: Only say what would go; else a run that is a dry run skips this task.
            kwargs: For ``BaseOperator``.
        """
        super().__init__(spec=spec, **kwargs)
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
        return self.go_on(context, time.time() + DEADLINE_SECONDS)

    def asked(self, context: Any) -> dict[str, Any]:
        """See ``JobTask``."""
        params = context["params"]
        return {
            "spec": self.spec,
            "keep": int(params["keep"]),
            "grace_seconds": round(float(params["grace_hours"]) * 3600),
            "dry_run": self.looks_only,
            **attempt(context),
        }

    def advance(self, asked: dict[str, Any], ports: Ports) -> Done | Wait | Fail:
        """See ``JobTask``."""
        every = neighbours(RolloutSpec.model_validate(self.spec))
        return collecting.advance(understood(asked, every), ports, time.time)


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
