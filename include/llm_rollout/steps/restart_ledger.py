"""What is known of a candidate's failed starts. It stands on the LeaderWorkerSet, so that a rerun goes on with it.

A start of a group is one life of its leader pod, named by the pod's UID: the controller makes a group anew by deleting
its leader, and a pause ends all of them. Recreations are counted by group and the highest count is the candidate's:
a pause makes healthy groups anew as well, and that is no failure of theirs.
"""

from __future__ import annotations

from collections import Counter

from pydantic import BaseModel, ConfigDict, ValidationError

from llm_rollout import names
from llm_rollout.ports import Manifest
from llm_rollout.steps import pod_state
from llm_rollout.steps.group_state import GroupState

OF_A_NODE = frozenset({
    "GPU_BUSY", "HOST_MEMORY", "PORT_IN_USE", "NCCL", "NODE_LOST", "EVICTED", "UNKNOWN",
})  # fmt: skip
"""Causes that may lie in the node. Another place heals neither a flag nor what a rank says when its peer is gone."""
_KILLED_BEFORE = 2
"""Generations that a node has to end before it is left out: one alone is chance."""


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Ended(_Entry):
    """One life of a leader. ``node`` and ``class_name`` are set where its group failed first."""

    uid: str
    group: str
    node: str = ""
    class_name: str = ""


class Spent(_Entry):
    """Why no further start is made: what the step fails with. Without a cause it is still to be named."""

    since: float
    """Seconds since the epoch."""
    cause: str = ""
    remedy: str = ""


class Ledger(_Entry):
    """All of it. It has as many entries as the budget allows starts, so it needs no other bound."""

    failures: int = 0
    """Starts that have failed, of the group that failed most often."""
    ended: tuple[Ended, ...] = ()
    resume_at: float | None = None
    """Seconds since the epoch; None while no pause is on."""
    spent: Spent | None = None

    @property
    def bad_node(self) -> str | None:
        """The node on which two generations failed first, for causes that may lie in a node."""
        blamed = Counter(one.node for one in self.ended if one.node and one.class_name in OF_A_NODE)
        return next((node for node, count in blamed.most_common() if count >= _KILLED_BEFORE), None)

    def text(self) -> str:
        """For the annotation."""
        return self.model_dump_json(exclude_defaults=True)


def read(lws: Manifest) -> Ledger:
    """The ledger of a LeaderWorkerSet; an empty one where there is none or somebody wrote something else."""
    text = lws["metadata"].get("annotations", {}).get(names.RESTARTS_ANNOTATION, "{}")
    try:
        return Ledger.model_validate_json(text)
    except ValidationError:
        return Ledger()


def failures(ledger: Ledger, seen: GroupState, lost: str = "") -> int:
    """How many starts have failed so far, of the group that failed most often.

    Lives that are over, and the present one once a container of it has ended: that it is started again in place heals
    no group. ``lost`` names a pod that is dead although no container of it has, such as one on a node that is gone.
    """
    present = {group_of(pod_state.name(leader), seen): _uid(leader) for leader in seen.leaders}
    counts = [
        len(uids - {present.get(group, "")}) + _has_failed(group, seen, lost)
        for group, uids in _lives(ledger, seen, lost).items()
    ]
    return max(counts, default=0)


def noted(ledger: Ledger, seen: GroupState, blamed: Ended | None, lost: str = "") -> Ledger:
    """With every life that is known of, and the one that has just failed with its node and class."""
    count = failures(ledger, seen, lost)
    known = {one.uid: one for one in ledger.ended}
    for group, uids in _lives(ledger, seen, lost).items():
        known |= {uid: Ended(uid=uid, group=group) for uid in sorted(uids) if uid not in known}
    if blamed is not None and blamed.uid in known:
        marks = {"node": blamed.node, "class_name": blamed.class_name}
        known[blamed.uid] = known[blamed.uid].model_copy(update=marks)
    return ledger.model_copy(update={"failures": count, "ended": tuple(known.values())})


def blaming(ledger: Ledger, node: str, class_name: str) -> Ledger:
    """With what is known by now of the start that failed last."""
    blamed = [index for index, one in enumerate(ledger.ended) if one.class_name]
    if not blamed:
        return ledger
    ended = list(ledger.ended)
    ended[blamed[-1]] = ended[blamed[-1]].model_copy(update={"node": node, "class_name": class_name})
    return ledger.model_copy(update={"ended": tuple(ended)})


def leader_of(pod: str, seen: GroupState) -> str:
    """The UID of the leader that a pod belongs to now; empty when it has none."""
    leader = _leader(group_of(pod, seen), seen)
    return _uid(leader) if leader else ""


def group_of(pod: str, seen: GroupState) -> str:
    """The index of a pod's group, from its name: ``<LeaderWorkerSet>-<group>`` and ``…-<group>-<rank>``."""
    prefix = f"{(seen.lws or {'metadata': {'name': ''}})['metadata']['name']}-"
    return pod.removeprefix(prefix).partition("-")[0] if pod.startswith(prefix) else ""


def _lives(ledger: Ledger, seen: GroupState, lost: str) -> dict[str, set[str]]:
    """UIDs of leaders by group: those noted before, those that events tell of, those that are there.

    Events alone would forget: they expire after an hour. Each is of one UID, so none is aggregated with another. A
    leader that was made and taken back before it had a place (the controllers do that when asked twice) was no start.
    """
    lives: dict[str, set[str]] = {}
    for one in ledger.ended:
        lives.setdefault(one.group, set()).add(one.uid)
    for event in seen.events:
        about = event.get("involvedObject", {})
        if event.get("reason") == "Scheduled" and _is_leader(str(about.get("name", "")), seen) and about.get("uid"):
            lives.setdefault(group_of(about["name"], seen), set()).add(about["uid"])
    for leader in seen.leaders:
        group = group_of(pod_state.name(leader), seen)
        if pod_state.node(leader) or _has_failed(group, seen, lost):
            lives.setdefault(group, set()).add(_uid(leader))
    return lives


def _leader(group: str, seen: GroupState) -> Manifest | None:
    return next((leader for leader in seen.leaders if group_of(pod_state.name(leader), seen) == group), None)


def _has_failed(group: str, seen: GroupState, lost: str) -> bool:
    """Whether a pod of the group's present life is dead. A worker goes after its leader and belongs to that one's."""
    leader = _leader(group, seen)
    if leader is None:
        return False
    pods = [pod for pod in seen.pods if group_of(pod_state.name(pod), seen) == group]
    # Whole seconds: what was made in the same one is taken for the leader's own.
    return any(_is_dead(pod, lost) for pod in pods if pod_state.created(pod) >= pod_state.created(leader))


def _is_dead(pod: Manifest, lost: str) -> bool:
    ended = pod_state.crash(pod) is not None or pod.get("status", {}).get("phase") == "Failed"
    taken = pod_state.is_going(pod) and bool(pod_state.node(pod))
    return ended or taken or pod_state.name(pod) == lost


def _is_leader(pod: str, seen: GroupState) -> bool:
    group = group_of(pod, seen)
    return group.isdigit() and pod.endswith(f"-{group}") and pod.count("-") == _dashes(seen) + 1


def _dashes(seen: GroupState) -> int:
    return str((seen.lws or {"metadata": {"name": ""}})["metadata"]["name"]).count("-")


def _uid(pod: Manifest) -> str:
    return str(pod["metadata"].get("uid", ""))
