"""A look at one model's upstream revision."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

from llm_rollout import upgrades
from llm_rollout.errors import Permanent, Transient
from llm_rollout.spec import RolloutSpec
from llm_rollout.spec_problems import masked
from rollout_airflow import connection


class WatchRevision(BaseOperator):
    """Answers ``{"commit", "run_id"}`` when a rollout is due, and is skipped with the reason when none is."""

    template_fields = ()

    def __init__(self, *, spec: Mapping[str, Any], **kwargs: Any) -> None:
        """Watch the model of ``spec`` (as JSON)."""
        super().__init__(**kwargs)
        self.spec = dict(spec)

    def execute(self, context: Any) -> dict[str, str]:
        """Look once.

        Raises:
            AirflowException: The hub or the cluster did not answer.
            AirflowFailException: The revision is gone, gated, or may not be read.
            AirflowSkipException: There is nothing to start.
        """
        del context
        spec = RolloutSpec.model_validate(self.spec)
        try:
            found = upgrades.decide(spec, upgrades.observe(spec, connection.ports()), time.time())
        except Transient as error:
            raise AirflowException(masked(str(error))) from error
        except Permanent as error:
            raise AirflowFailException(masked(str(error))) from error
        if isinstance(found, upgrades.Stay):
            raise AirflowSkipException(found.reason)
        self.log.info("%s: starting %s", found.reason, found.run_id)
        return {"commit": found.commit, "run_id": found.run_id}
