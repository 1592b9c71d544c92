"""How the candidate has been beside stable since requests began to move: a ConfigMap beside the record.

The share itself stands in the HTTPRoute. An entry speaks of one run and its candidate, and says nothing of others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, TypeAdapter

from llm_rollout.canary.live_readings import Reading
from llm_rollout.ports import Cluster, Manifest
from llm_rollout.steps import journals
from llm_rollout.steps.journals import Place


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


@dataclass(frozen=True)
class Journal:
    """The ConfigMap as seen once."""

    found: Manifest | None = None
    entry: Entry | None = None


_ENTRY = TypeAdapter(Entry)


def place(namespace: str, model: str) -> Place:
    """Where the shift of a model is noted."""
    return Place(namespace, model, "shift")


def load(cluster: Cluster, where: Place, run_id: str, revision_id: str) -> Journal:
    """What is noted of this run's candidate."""
    found = journals.read(cluster, where)
    entry = journals.parsed(found, where, _ENTRY)
    ours = entry is not None and (entry.run_id, entry.revision_id) == (run_id, revision_id)
    return Journal(found, entry if ours else None)


def write(cluster: Cluster, where: Place, found: Manifest | None, entry: Entry) -> None:
    """Note it in place of what was seen.

    Raises:
        Conflict: Somebody wrote since it was seen.
    """
    journals.write(cluster, where, found, _ENTRY.dump_json(entry))
