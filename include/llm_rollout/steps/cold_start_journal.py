"""Which ranks of a model's starts have ended, and why: a ConfigMap beside the record.

A pod is gone a second after it died. Whoever looks then notes it here, so that the task that acts on it, which is
another process and maybe another machine, still knows. An entry is one end of one life, so nobody's entry makes
another one wrong, and what cannot be read counts for nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from llm_rollout import kinds, names
from llm_rollout.coldstart.deaths import Death
from llm_rollout.errors import Conflict, Transient
from llm_rollout.ports import Cluster, Manifest

KEY = "starts.json"
"""The ConfigMap's key."""
KEPT = 64
_TRIES = 8


class Entry(BaseModel):
    """One end in one attempt."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    attempt: str
    """``<run id>/<try>``: a person who clears a task has put something right, so that earlier ends say nothing."""
    death: Death


_ENTRIES = TypeAdapter(tuple[Entry, ...])


def name(model: str) -> str:
    """The ConfigMap's name. No model's name has a dot, so it is no record's."""
    return f"{names.record_name(model)}.starts"


def load(cluster: Cluster, namespace: str, model: str, attempt: str) -> tuple[Death, ...]:
    """The ends of one attempt, in the order in which they were noted."""
    found = cluster.get(kinds.CONFIG_MAP, namespace, name(model))
    return tuple(entry.death for entry in _parsed(found) if entry.attempt == attempt)


def note(cluster: Cluster, namespace: str, model: str, attempt: str, ends: Sequence[Death]) -> None:
    """Add what is not there yet; the oldest go. Nothing new is no write.

    Raises:
        Transient: Others wrote at the same time, every time.
    """
    for _ in range(_TRIES):
        found = cluster.get(kinds.CONFIG_MAP, namespace, name(model))
        known = _parsed(found)
        there = {(entry.attempt, entry.death.key) for entry in known}
        fresh = tuple(Entry(attempt=attempt, death=end) for end in ends if (attempt, end.key) not in there)
        if not fresh:
            return
        data = {KEY: _ENTRIES.dump_json((*known, *fresh)[-KEPT:], exclude_defaults=True).decode()}
        try:
            _write(cluster, namespace, model, found, data)
        except Conflict:
            continue
        return
    raise Transient(f"ConfigMap {namespace}/{name(model)}: {_TRIES} conflicting writes in a row")


def _write(cluster: Cluster, namespace: str, model: str, found: Manifest | None, data: dict[str, str]) -> None:
    if found is not None:
        cluster.replace({**found, "data": data})
        return
    metadata = {"name": name(model), "namespace": namespace, "labels": {names.MODEL_LABEL: model}}
    kind = kinds.CONFIG_MAP
    cluster.create({"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, "data": data})


def _parsed(found: Manifest | None) -> tuple[Entry, ...]:
    try:
        return _ENTRIES.validate_json((found or {}).get("data", {}).get(KEY, "[]"))
    except ValidationError:
        return ()
