"""How live traffic has been since the switch: a ConfigMap beside the record.

Whoever watches has no memory of its own, and the old revision's counters are gone with its pods. An entry speaks of one
switch only: after another one it counts for nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, TypeAdapter

from llm_rollout.canary.live import Standing
from llm_rollout.ports import Cluster, Manifest
from llm_rollout.steps import journals
from llm_rollout.steps.journals import Place


class Entry(BaseModel):
    """One watch."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    switched_at: float
    """Seconds since the epoch: the switch that it speaks of."""
    revision_id: str
    history_requests: int | None
    """Of the old revision; None where nobody could read them, or where there was none."""
    standing: Standing


@dataclass(frozen=True)
class Journal:
    """The ConfigMap as seen once."""

    found: Manifest | None = None
    entry: Entry | None = None
    """Of the switch that was asked for."""


_ENTRY = TypeAdapter(Entry)


def place(namespace: str, model: str) -> Place:
    """Where the watch of a model is noted."""
    return Place(namespace, model, "live")


def load(cluster: Cluster, where: Place, revision_id: str, switched_at: float) -> Journal:
    """What is noted of this switch."""
    found = journals.read(cluster, where)
    entry = journals.parsed(found, where, _ENTRY)
    ours = entry is not None and (entry.revision_id, entry.switched_at) == (revision_id, switched_at)
    return Journal(found, entry if ours else None)


def write(cluster: Cluster, where: Place, found: Manifest | None, entry: Entry) -> None:
    """Note it in place of what was seen.

    Raises:
        Conflict: Somebody wrote since it was seen.
    """
    journals.write(cluster, where, found, _ENTRY.dump_json(entry))
