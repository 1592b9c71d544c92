"""What one run of the pipeline is asked to do, and the plan it carries out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

from pydantic import BaseModel, ConfigDict

from llm_rollout.ports import Ports
from llm_rollout.spec import RolloutSpec
from llm_rollout.verdict import Verdict


@dataclass(frozen=True)
class Rollout:
    """One run of the pipeline for one model, as a step sees it."""

    spec: RolloutSpec
    """The spec in force: the file's for ``plan_rollout``, the plan's from then on (an edit in mid-run changes nothing)."""
    run_id: str
    """The id that holds the lease and names this run in the record."""
    attempt: str
    """The run id and the task's try number: tells a failed Job of this try from one of an earlier try."""
    revision: str
    """The revision asked for: a branch, a tag or a commit."""
    dry_run: bool = False

    def under(self, spec: RolloutSpec) -> Rollout:
        """The same run with the planned spec."""
        return replace(self, spec=spec)


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
    weights_bytes: int
    """Sum of the sizes of the commit's files that are staged."""
    stable_lws: str | None
    """The LeaderWorkerSet that the Service selected when the plan was made; None on a first deployment."""
    stable_revision_id: str | None
    fencing_token: int


class Step(Protocol):
    """The shape of every step module. ``Observed`` and the plan are the module's own types."""

    def observe(self, rollout: Rollout, ports: Ports) -> object:
        """Read, and nothing else."""

    def decide(self, rollout: Rollout, seen: object, now: float) -> Verdict:
        """Pure: the same facts give the same verdict. ``now`` is in seconds since the epoch."""

    def act(self, plan: object, ports: Ports) -> None:
        """Write what was decided; doing it twice changes nothing the second time."""
