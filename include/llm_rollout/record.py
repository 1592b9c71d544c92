"""The record of a model: a ConfigMap with current and previous revision and the last rollouts.

Schema here, pure changes here; reading and writing is :mod:`llm_rollout.adapters.records`.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from llm_rollout.rollout import RolloutPlan

KEPT_ROLLOUTS = 20

Ended = Literal["succeeded", "rolled_back", "failed", "dry_run"]


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Revision(_Entry):
    """One deployed revision with everything needed to bring it back."""

    revision_id: str
    commit: str
    lws: str
    manifests: tuple[dict[str, Any], ...]
    """Full manifests as applied: LeaderWorkerSet keeps no history."""


class StepResult(_Entry):
    """How one step ended (or where it stands)."""

    step: str
    verdict: Literal["done", "wait", "fail"]
    summary: str
    """The verdict's one line: summary, reason or cause."""
    remedy: str = ""
    started: float
    """Seconds since the epoch, first look of the step in this run."""
    ended: float | None = None
    waited_seconds: float = 0.0
    """Part of the time spent waiting for the cluster or a Job; the rest is orchestration."""
    evidence: dict[str, Any] = {}


class RolloutResult(_Entry):
    """One run of the pipeline."""

    run_id: str
    revision: str
    started: float
    ended: float | None = None
    outcome: Ended | None = None
    reason: str = ""
    """One paragraph a person can read: why it ended so."""
    plan: RolloutPlan | None = None
    steps: tuple[StepResult, ...] = ()


class Record(_Entry):
    """Everything a model's ConfigMap holds. ``rollouts`` is oldest first."""

    name: str
    current: Revision | None = None
    previous: Revision | None = None
    rollouts: tuple[RolloutResult, ...] = ()

    def run(self, run_id: str) -> RolloutResult | None:
        """The entry of a run."""
        return next((entry for entry in self.rollouts if entry.run_id == run_id), None)
