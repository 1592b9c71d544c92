"""The record of a model: a ConfigMap with current and previous revision and the last rollouts.

The schema, the pure changes, and reading and writing through the cluster. Only the run that holds the lease writes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from llm_rollout import kinds, names
from llm_rollout.errors import Conflict, Permanent, Transient
from llm_rollout.ports import Cluster, Manifest
from llm_rollout.rollout import RolloutPlan

RECOVERY = ("roll_back", "conclude")
"""Steps that speak of a run's end: what they said is void when the run goes on."""

KEPT_ROLLOUTS = 20
KEY = "record.json"
"""The ConfigMap's key."""
MOST_BYTES = 900_000
"""A ConfigMap holds 1 MiB; beyond this the oldest rollouts lose their evidence first, then go."""
_TRIES = 8
"""Writers are one run's parallel steps, so a conflict is rare and a second one rarer."""

Ended = Literal["succeeded", "rolled_back", "failed"]


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
    """One run of the pipeline, or one return to the previous revision."""

    run_id: str
    revision: str
    started: float
    ended: float | None = None
    outcome: Ended | None = None
    reason: str = ""
    """One paragraph a person can read: why it ended so."""
    plan: RolloutPlan | None = None
    steps: tuple[StepResult, ...] = ()
    target: str | None = None
    """A return's goal: the revision_id that was previous when it began."""
    displaced: Revision | None = None
    """The previous revision that this run's switch pushed out of the record; a roll back puts it there again."""

    def step(self, name: str) -> StepResult | None:
        """How a step stands in this run."""
        return next((result for result in self.steps if result.step == name), None)

    def ended_well(self, name: str) -> bool:
        """Whether a step is done in this run."""
        result = self.step(name)
        return result is not None and result.verdict == "done"


class Record(_Entry):
    """Everything a model's ConfigMap holds. ``rollouts`` is oldest first. Its methods return changed copies."""

    name: str
    current: Revision | None = None
    previous: Revision | None = None
    rollouts: tuple[RolloutResult, ...] = ()

    def run(self, run_id: str) -> RolloutResult | None:
        """The entry of a run."""
        return next((entry for entry in self.rollouts if entry.run_id == run_id), None)

    def later_than(self, run_id: str) -> RolloutResult | None:
        """The newest run if it is another one and this run has an entry before it."""
        newest = self.rollouts[-1] if self.run(run_id) else None
        return newest if newest and newest.run_id != run_id else None

    def ended_runs(self) -> frozenset[str]:
        """The runs that no longer write."""
        return frozenset(entry.run_id for entry in self.rollouts if entry.outcome)

    def revision(self, revision_id: str | None) -> Revision | None:
        """Current or previous, whichever it is."""
        known = [one for one in (self.current, self.previous) if one and one.revision_id == revision_id]
        return known[0] if known else None

    def opened(self, run_id: str, revision: str, now: float, target: str | None = None) -> Record:
        """With an entry for this run; a failed one is open again, without what was said of its end."""
        entry = self.run(run_id)
        if entry is None:
            fresh = RolloutResult(run_id=run_id, revision=revision, started=now, target=target)
            return self.model_copy(update={"rollouts": (*self.rollouts, fresh)[-KEPT_ROLLOUTS:]})
        if entry.outcome is None:
            return self
        steps = tuple(step for step in entry.steps if step.step not in RECOVERY)
        return self._with(run_id, outcome=None, ended=None, reason="", steps=steps)

    def with_plan(self, run_id: str, plan: RolloutPlan) -> Record:
        """With the plan that this run carries out from now on."""
        return self._with(run_id, plan=plan)

    def with_step(self, run_id: str, result: StepResult) -> Record:
        """With the newest result of a step in place of its earlier one."""
        entry = self.run(run_id)
        kept = tuple(step for step in entry.steps if step.step != result.step) if entry else ()
        return self.with_steps(run_id, (*kept, result))

    def with_steps(self, run_id: str, steps: tuple[StepResult, ...]) -> Record:
        """With these results in place of all."""
        return self._with(run_id, steps=steps)

    def concluded(self, run_id: str, outcome: Ended, reason: str, now: float) -> Record:
        """With the end of a run."""
        return self._with(run_id, outcome=outcome, reason=reason, ended=now, displaced=None)

    def switched(self, run_id: str, to: Revision) -> Record:
        """With ``to`` as what serves now, and what served before as previous."""
        if self.current is not None and self.current.revision_id == to.revision_id:
            return self
        noted = self._with(run_id, displaced=self.previous)
        return noted.model_copy(update={"current": to, "previous": self.current})

    def switched_back(self, run_id: str, candidate: str) -> Record:
        """Without a candidate that had become current: what it displaced is back in its place."""
        if self.current is None or self.current.revision_id != candidate:
            return self
        entry = self.run(run_id)
        back = {"current": self.previous, "previous": entry.displaced if entry else None}
        return self._with(run_id, displaced=None).model_copy(update=back)

    def _with(self, run_id: str, **changes: Any) -> Record:
        entries = tuple(
            entry.model_copy(update=changes) if entry.run_id == run_id else entry for entry in self.rollouts
        )
        return self.model_copy(update={"rollouts": entries})


def load(cluster: Cluster, namespace: str, name: str) -> Record:
    """The record of a model; an empty one when there is none.

    Raises:
        Permanent: The ConfigMap holds something else.
    """
    return _parsed(cluster.get(kinds.CONFIG_MAP, namespace, names.record_name(name)), name)


def update(cluster: Cluster, namespace: str, name: str, change: Callable[[Record], Record]) -> Record:
    """Read, change, write; again from the start when somebody wrote in between. No change is no write.

    Raises:
        Transient: It conflicted every time.
    """
    for _ in range(_TRIES):
        found = cluster.get(kinds.CONFIG_MAP, namespace, names.record_name(name))
        before = _parsed(found, name)
        after = change(before)
        if found is not None and after == before:
            return after
        try:
            _write(cluster, namespace, found, after)
        except Conflict:
            continue
        return after
    raise Transient(f"ConfigMap {namespace}/{names.record_name(name)}: {_TRIES} conflicting writes in a row")


def _parsed(found: Manifest | None, name: str) -> Record:
    if found is None:
        return Record(name=name)
    try:
        return Record.model_validate_json(found.get("data", {}).get(KEY, ""))
    except ValidationError as error:
        where = f"ConfigMap {found['metadata']['namespace']}/{found['metadata']['name']}, key {KEY}"
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(map(str, first["loc"]))
        raise Permanent(f"{where}: {field}: {first['msg']}; repair or delete it (what runs is not touched)") from error


def _write(cluster: Cluster, namespace: str, found: Manifest | None, record: Record) -> None:
    data = {KEY: _within_limit(record)}
    if found is not None:
        cluster.replace({**found, "data": data})
        return
    metadata = {
        "name": names.record_name(record.name),
        "namespace": namespace,
        "labels": {names.MODEL_LABEL: record.name},
    }
    cluster.create({
        "apiVersion": kinds.CONFIG_MAP.api_version, "kind": kinds.CONFIG_MAP.kind, "metadata": metadata, "data": data,
    })  # fmt: skip


def _within_limit(record: Record) -> str:
    """The record as text, without the oldest evidence and then the oldest rollouts if it is too long."""
    text = record.model_dump_json(exclude_defaults=True)
    for entry in record.rollouts[:-1]:
        if len(text.encode()) <= MOST_BYTES:
            break
        bare = tuple(step.model_copy(update={"evidence": {}}) for step in entry.steps)
        record = record.with_steps(entry.run_id, bare)
        text = record.model_dump_json(exclude_defaults=True)
    while len(text.encode()) > MOST_BYTES and len(record.rollouts) > 1:
        record = record.model_copy(update={"rollouts": record.rollouts[1:]})
        text = record.model_dump_json(exclude_defaults=True)
    return text
