"""How live traffic has been since the switch: a ConfigMap beside the record.

Whoever watches has no memory of its own, and the old revision's counters are gone with its pods. An entry speaks of one
switch only: after another one it counts for nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from llm_rollout import kinds, names
from llm_rollout.canary.live import Standing
from llm_rollout.ports import Cluster, Manifest

KEY = "live.json"
"""The ConfigMap's key."""


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


def name(model: str) -> str:
    """The ConfigMap's name. No model's name has a dot, so it is no record's."""
    return f"{names.record_name(model)}.live"


def load(cluster: Cluster, namespace: str, model: str, revision_id: str, switched_at: float) -> Journal:
    """What is noted of this switch; what cannot be read counts for nothing."""
    found = cluster.get(kinds.CONFIG_MAP, namespace, name(model))
    entry = _parsed(found)
    ours = entry is not None and (entry.revision_id, entry.switched_at) == (revision_id, switched_at)
    return Journal(found, entry if ours else None)


def write(cluster: Cluster, namespace: str, model: str, found: Manifest | None, entry: Entry) -> None:
    """Note it in place of what was seen.

    Raises:
        Conflict: Somebody wrote since it was seen.
    """
    data = {KEY: _ENTRY.dump_json(entry).decode()}
    if found is not None:
        cluster.replace({**found, "data": data})
        return
    metadata: dict[str, Any] = {"name": name(model), "namespace": namespace, "labels": {names.MODEL_LABEL: model}}
    kind = kinds.CONFIG_MAP
    cluster.create({"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, "data": data})


def _parsed(found: Manifest | None) -> Entry | None:
    try:
        return _ENTRY.validate_json((found or {}).get("data", {}).get(KEY, ""))
    except ValidationError:
        return None
