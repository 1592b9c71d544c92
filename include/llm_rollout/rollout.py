"""What one run of the pipeline is asked to do, and the plan it carries out."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Protocol

from pydantic import BaseModel, ConfigDict

from llm_rollout.errors import Permanent
from llm_rollout.ports import Ports
from llm_rollout.spec import RolloutSpec
from llm_rollout.verdict import Verdict


class RolloutPlan(BaseModel):
    """What ``plan_rollout`` decided; it stands in the record and every later step reads it there."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    spec: RolloutSpec
    commit: str
    """40 hex digits."""
    revision_id: str
    lws: str
    """The LeaderWorkerSet of the candidate."""
    nodes: tuple[str, ...]
    """The nodes chosen for the candidate, all groups together."""
    excluded_nodes: dict[str, str] = {}
    """Nodes that this run found unfit, with the reason; others stand in ``nodes`` in their place."""
    weights_bytes: int
    """Sum of the sizes of the commit's files that are staged."""
    stable_lws: str | None
    """The LeaderWorkerSet that the Service selected when the plan was made; None on a first deployment."""
    stable_revision_id: str | None
    stable_port: int | None = None
    """Where stable's leaders listen; None on a first deployment and in older records: then ``spec.server.port``."""
    fencing_token: int

    @property
    def already_live(self) -> bool:
        """Whether the Service selected the target before the run began: then there is nothing to roll out or back."""
        return self.stable_revision_id == self.revision_id


PREVIOUS = "previous"
"""The revision that a person's return asks for: ``roll_back`` alone, to the record's previous revision."""


@dataclass(frozen=True)
class Rollout:
    """One run of the pipeline for one model, as a step sees it."""

    spec: RolloutSpec
    """The spec in force: the file's for ``plan_rollout``, the plan's from then on: edits in mid-run change nothing."""
    run_id: str
    """The id that holds the lease and names this run in the record."""
    attempt: str
    """``<run id>/<try>`` of the task: tells a failed Job of this try from one of an earlier try."""
    revision: str
    """The revision asked for: a branch, a tag or a commit; or ``PREVIOUS``."""
    dry_run: bool = False
    plan: RolloutPlan | None = None
    """What stands in the record; the runner fills it in."""

    def under(self, plan: RolloutPlan) -> Rollout:
        """The same run with the plan that stands in the record, and the spec in it."""
        return replace(self, spec=plan.spec, plan=plan)

    def evidence_path(self, name: str) -> str:
        """Where in the evidence store this run keeps something."""
        run = re.sub(r"[^\w.-]", "_", self.run_id)
        return f"{self.spec.name}/{run}/{name}"

    @property
    def is_return(self) -> bool:
        """Whether a person asked to go back to the previous revision."""
        return self.revision == PREVIOUS

    @property
    def planned(self) -> RolloutPlan:
        """The plan.

        Raises:
            Permanent: ``plan_rollout`` has not written one.
        """
        if self.plan is None:
            raise Permanent(f"run {self.run_id} of {self.spec.name} has no plan in the record: clear plan_rollout")
        return self.plan


class Step(Protocol):
    """The shape of every step module. ``Observed`` and the plan are the module's own types."""

    def observe(self, rollout: Rollout, ports: Ports) -> object:
        """Read, and nothing else."""

    def decide(self, rollout: Rollout, seen: object, now: float) -> Verdict:
        """Pure: the same facts give the same verdict. ``now`` is in seconds since the epoch."""

    def act(self, plan: object, ports: Ports) -> None:
        """Write what was decided; doing it twice changes nothing the second time."""
