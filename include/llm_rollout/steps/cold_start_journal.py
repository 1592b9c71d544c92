"""Which ranks of a model's starts have ended, and why: a ConfigMap beside the record.

A pod is gone a second after it died. Whoever looks then notes it here, so that the task that acts on it, which is
another process and maybe another machine, still knows. An entry is one end of one life, so nobody's entry makes
another one wrong, and what cannot be read counts for nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, TypeAdapter

from llm_rollout.coldstart.deaths import Death
from llm_rollout.errors import Conflict, Transient
from llm_rollout.ports import Cluster
from llm_rollout.steps import journals
from llm_rollout.steps.journals import Place

KEPT = 64
_TRIES = 8


class Entry(BaseModel):
    """One end in one attempt."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    attempt: str
    """``<run id>/<try>``: a person who clears a task has put something right, so that earlier ends say nothing."""
    death: Death


_ENTRIES = TypeAdapter(tuple[Entry, ...])


def place(namespace: str, model: str) -> Place:
    """Where the ends of a model's ranks are noted."""
    return Place(namespace, model, "starts")


def load(cluster: Cluster, where: Place, attempt: str) -> tuple[Death, ...]:
    """The ends of one attempt, in the order in which they were noted."""
    known = journals.parsed(journals.read(cluster, where), where, _ENTRIES) or ()
    return tuple(entry.death for entry in known if entry.attempt == attempt)


def note(cluster: Cluster, where: Place, attempt: str, ends: Sequence[Death]) -> None:
    """Add what is not there yet; the oldest go. Nothing new is no write.

    Raises:
        Transient: Others wrote at the same time, every time.
    """
    for _ in range(_TRIES):
        found = journals.read(cluster, where)
        known = journals.parsed(found, where, _ENTRIES) or ()
        there = {(entry.attempt, entry.death.key) for entry in known}
        fresh = tuple(Entry(attempt=attempt, death=end) for end in ends if (attempt, end.key) not in there)
        if not fresh:
            return
        try:
            journals.write(cluster, where, found, _ENTRIES.dump_json((*known, *fresh)[-KEPT:], exclude_defaults=True))
        except Conflict:
            continue
        return
    raise Transient(f"ConfigMap {where.namespace}/{where.name}: {_TRIES} conflicting writes in a row")
