"""What keeps a pod from starting, in the cluster's own words, and how long it may before it is believed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from llm_rollout import clock
from llm_rollout.coldstart import happened, lives, patience, remedies
from llm_rollout.coldstart.lives import Life
from llm_rollout.coldstart.words import Cause
from llm_rollout.ports import Manifest

_SURE_SECONDS = 5.0
"""For what the cluster says for good: one more try of its own fits into it."""
_QUOTA_SECONDS = 10.0
_PLACED_SECONDS = 10.0
"""The scheduler answers at once; only a pod that still goes can make room, and then it gets a minute."""
_HICCUP_SECONDS = 60.0
"""Registries hiccup, and a group that was just deleted holds its GPUs for its grace period."""
_SURE = re.compile(
    r"not found|unknown|denied|unauthorized|forbidden|no such|does not exist|invalid|couldn't find key|"
    r"executable file|permission",
    re.IGNORECASE,
)
_SECRET = re.compile(r'(secret|configmap) "?[\w./-]+"? not found|couldn.t find key', re.IGNORECASE)
_CLAIM = re.compile(r"persistentvolumeclaim|PersistentVolumeClaim|volume node affinity|didn't find available persist")
_WAITING = {
    "InvalidImageName": "IMAGE", "ErrImagePull": "IMAGE", "ImagePullBackOff": "IMAGE", "ErrImageNeverPull": "IMAGE",
    "CreateContainerConfigError": "SECRET", "CreateContainerError": "IMAGE", "RunContainerError": "IMAGE",
}  # fmt: skip
_STATUS = {
    "Evicted": "EVICTED", "Preempting": "EVICTED", "NodeLost": "NODE_LOST", "NodeShutdown": "NODE_LOST",
    "Terminated": "NODE_LOST", "UnexpectedAdmissionError": "SCHEDULING", "NodeAffinity": "SCHEDULING",
    "OutOfcpu": "SCHEDULING", "OutOfmemory": "SCHEDULING",
}  # fmt: skip
_DISRUPTED = {
    "DeletionByTaintManager": "NODE_LOST", "DeletionByPodGC": "NODE_LOST", "TerminationByKubelet": "EVICTED",
    "EvictionByEvictionAPI": "EVICTED", "PreemptionByScheduler": "EVICTED",
}  # fmt: skip


@dataclass(frozen=True)
class Obstacle:
    """A cause and how many seconds after ``cause.at`` it counts."""

    cause: Cause
    patience_seconds: float

    def counts(self, now: float) -> bool:
        """Whether it has lasted long enough."""
        return now - (self.cause.at or 0.0) >= self.patience_seconds


@dataclass(frozen=True)
class Around:
    """What is known besides the pods themselves."""

    events: Sequence[Manifest] = ()
    nodes: Mapping[str, Manifest] | None = None
    """Those that the pods are on, where they may be read."""
    makes_room: bool = False
    """Whether another pod of the model is being deleted."""
    asked: Mapping[str, float] | None = None
    """``timing.patience``, in seconds by phase."""


def find(present: Sequence[Life], around: Around) -> list[Obstacle]:
    """Everything that keeps pods from starting, the longest first."""
    found = [obstacle for life in present for obstacle in _of(life, around)]
    return sorted([*found, *_refused(around)], key=lambda one: one.cause.at or 0.0)


def _of(life: Life, around: Around) -> Iterator[Obstacle]:
    """One pod's."""
    yield from _taken(life)
    yield from _of_its_node(life, around)
    if "deletionTimestamp" in life.pod["metadata"] or life.gone:
        return
    if not life.node:
        yield from _unplaced(life, around)
    elif life.started is None:
        yield from _waiting(life, around)
        yield from _unmounted(life, around)


def _obstacle(life: Life, class_name: str, message: str, since: float, seconds: float) -> Obstacle:
    text = happened.one_line(message)
    return Obstacle(Cause(class_name, text, remedies.remedy(class_name), at=since, source=life.name), seconds)


def _taken(life: Life) -> Iterator[Obstacle]:
    """Evicted, or its node given up."""
    status = life.pod.get("status", {})
    class_name = _STATUS.get(status.get("reason", "")) if status.get("phase") == "Failed" else None
    since = clock.seconds((status.get("containerStatuses") or [{}])[0].get("finishedAt")) or life.born
    if class_name:
        yield _obstacle(life, class_name, f"{status['reason']}: {status.get('message', '')}", since, 0)
        return
    for condition in status.get("conditions") or []:
        class_name = _DISRUPTED.get(condition.get("reason", ""))
        if condition["type"] == "DisruptionTarget" and condition.get("status") == "True" and class_name:
            since = clock.seconds(condition.get("lastTransitionTime")) or life.born
            yield _obstacle(life, class_name, f"{condition['reason']}: {condition.get('message', '')}", since, 0)


def _of_its_node(life: Life, around: Around) -> Iterator[Obstacle]:
    node = (around.nodes or {}).get(life.node)
    for condition in (node or {}).get("status", {}).get("conditions") or []:
        if condition["type"] == "Ready" and condition.get("status") != "True":
            since = clock.seconds(condition.get("lastTransitionTime")) or life.born
            told = f"node {life.node} is not ready: {condition.get('reason', '')} {condition.get('message', '')}"
            yield _obstacle(life, "NODE_LOST", told, since, _PLACED_SECONDS)


def _unplaced(life: Life, around: Around) -> Iterator[Obstacle]:
    conditions = life.pod.get("status", {}).get("conditions") or []
    for condition in conditions:
        if condition["type"] != "PodScheduled" or condition.get("reason") != "Unschedulable":
            continue
        since = clock.seconds(condition.get("lastTransitionTime")) or life.born
        message = condition.get("message", "")
        if _CLAIM.search(message):
            yield _obstacle(life, "VOLUME", message, since, _SURE_SECONDS if _SURE.search(message) else _HICCUP_SECONDS)
            return
        usual = _HICCUP_SECONDS if around.makes_room else _PLACED_SECONDS
        yield _obstacle(life, "SCHEDULING", message, since, (around.asked or {}).get("scheduling", usual))


def _waiting(life: Life, around: Around) -> Iterator[Obstacle]:
    waiting = lives.container(life.pod).get("state", {}).get("waiting") or {}
    reason, message = waiting.get("reason", ""), str(waiting.get("message", ""))
    class_name = _WAITING.get(reason)
    if class_name is None:
        return
    failed = sorted(happened.about(around.events, life.pod, "Failed", "InspectFailed"), key=happened.last)
    told = next((event["message"] for event in failed if _SURE.search(event["message"])), message)
    sure = class_name != "IMAGE" or reason == "InvalidImageName" or bool(_SURE.search(f"{told} {message}"))
    status_start = clock.seconds(life.pod.get("status", {}).get("startTime")) or life.born
    since = min(map(happened.first, failed), default=status_start)
    yield _obstacle(life, class_name, f"{reason}: {told}", since, _SURE_SECONDS if sure else _HICCUP_SECONDS)


def _unmounted(life: Life, around: Around) -> Iterator[Obstacle]:
    failed = sorted(happened.about(around.events, life.pod, "FailedMount", "FailedAttachVolume"), key=happened.last)
    if not failed:
        return
    message = failed[-1]["message"]
    sure = bool(_SURE.search(message))
    allowed = patience.seconds("volumes", around.asked or {}, 0.0)
    class_name = "SECRET" if _SECRET.search(message) else "VOLUME"
    seconds = _SURE_SECONDS if sure else allowed
    yield _obstacle(life, class_name, message, min(map(happened.first, failed)), seconds)


def _refused(around: Around) -> Iterator[Obstacle]:
    """Pods that could not even be created."""
    for event in around.events:
        message = str(event.get("message", ""))
        about = event.get("involvedObject", {})
        if event.get("reason") == "FailedCreate" and about.get("kind") in ("StatefulSet", "LeaderWorkerSet"):
            kind, since = "QUOTA" if "exceeded quota" in message else "SCHEDULING", happened.first(event)
            told, where = happened.one_line(message), str(about.get("name", ""))
            yield Obstacle(Cause(kind, told, remedies.remedy(kind), at=since, source=where), _QUOTA_SECONDS)
