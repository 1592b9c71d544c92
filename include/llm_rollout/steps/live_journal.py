"""How live traffic has been since the switch: a ConfigMap beside the record.

The old revision's counters are gone with its pods. An entry speaks of one switch only: after another one it counts for
nothing.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, TypeAdapter

from llm_rollout.canary.live import Standing
from llm_rollout.ports import Cluster
from llm_rollout.steps import journals


class Entry(BaseModel):
    """One watch."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    switched_at: float
    """Seconds since the epoch: the switch that it speaks of."""
    revision_id: str
    history_requests: int | None
    """Of the old revision; None where nobody could read them, or where there was none."""
    standing: Standing


Journal = journals.Journal[Entry]
KIND = journals.Kind("live", TypeAdapter(Entry))


def load(cluster: Cluster, namespace: str, model: str, revision_id: str, switched_at: float) -> Journal:
    """What is noted of this switch."""
    found = KIND.read(cluster, namespace, model)
    return found.where(lambda entry: (entry.revision_id, entry.switched_at) == (revision_id, switched_at))
