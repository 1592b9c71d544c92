"""Which ranks of a model's starts have ended, and why: a ConfigMap beside the record.

A pod is gone a second after it died. Whoever looks then notes it here, so that the task that acts on it still knows.
An entry is one end of one life, so nobody's entry makes another one wrong.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, TypeAdapter

from llm_rollout.coldstart.deaths import Death
from llm_rollout.errors import Conflict, Transient
from llm_rollout.ports import Cluster
from llm_rollout.steps import journals

KEPT = 64
_TRIES = 8


class Entry(BaseModel):
    """One end in one attempt."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    attempt: str
    """``<run id>/<try>``: a person who clears a task has put something right, so that earlier ends say nothing."""
    death: Death


KIND = journals.Kind("starts", TypeAdapter(tuple[Entry, ...]))


def load(cluster: Cluster, namespace: str, model: str, attempt: str) -> tuple[Death, ...]:
    """The ends of one attempt, in the order in which they were noted."""
    known = KIND.read(cluster, namespace, model).entry or ()
    return tuple(entry.death for entry in known if entry.attempt == attempt)


def note(cluster: Cluster, namespace: str, model: str, attempt: str, ends: Sequence[Death]) -> None:
    """Add what is not there yet; the oldest go. Nothing new is no write.

    Raises:
        Transient: Others wrote at the same time, every time.
    """
    for _ in range(_TRIES):
        seen = KIND.read(cluster, namespace, model)
        known = seen.entry or ()
        there = {(entry.attempt, entry.death.key) for entry in known}
        fresh = tuple(Entry(attempt=attempt, death=end) for end in ends if (attempt, end.key) not in there)
        if not fresh:
            return
        try:
            KIND.write(cluster, namespace, model, seen, (*known, *fresh)[-KEPT:])
        except Conflict:
            continue
        return
    raise Transient(f"ConfigMap {namespace}/{KIND.name(model)}: {_TRIES} conflicting writes in a row")
