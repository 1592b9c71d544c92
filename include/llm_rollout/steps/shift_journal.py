"""How the candidate has been beside stable since requests began to move: a ConfigMap beside the record.

The share itself stands in the HTTPRoute. An entry speaks of one run and its candidate, and says nothing of others.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, TypeAdapter

from llm_rollout.canary.live_readings import Reading
from llm_rollout.ports import Cluster
from llm_rollout.steps import journals


class Entry(BaseModel):
    """Where the judgement stands. Times are in seconds since the epoch."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    run_id: str
    revision_id: str
    percent: int
    """The step that it speaks of."""
    since: float
    """When the gateways had taken it."""
    pairs_before: int
    """Judged in the steps before."""
    until: float
    """The end of the last window."""
    stable: Mapping[str, Reading]
    """Each leader's counters at that moment."""
    candidate: Mapping[str, Reading]
    standing: dict[str, Any]
    """The judge's, as ``canary.standing_json`` writes it."""
    windows: int = 0
    trail: tuple[Mapping[str, float], ...] = ()
    """Each metric's wealth after the windows, for the picture."""


Journal = journals.Journal[Entry]
KIND = journals.Kind("shift", TypeAdapter(Entry))


def load(cluster: Cluster, namespace: str, model: str, run_id: str, revision_id: str) -> Journal:
    """What is noted of this run's candidate."""
    found = KIND.read(cluster, namespace, model)
    return found.where(lambda entry: (entry.run_id, entry.revision_id) == (run_id, revision_id))
