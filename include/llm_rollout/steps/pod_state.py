"""What a pod's status says, as the decisions need it: ready, crashed, stuck."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from llm_rollout import clock
from llm_rollout.ports import Manifest

PATIENCE_SECONDS = 60.0
"""How long an image may fail to be pulled or a pod to be placed before it counts as stuck: registries hiccup, and a
group that was just deleted holds its GPUs for its grace period."""

_STUCK_REASONS = {
    "ErrImagePull": "check server.image (or job_image) and the node's access to the registry",
    "ImagePullBackOff": "check server.image (or job_image) and the node's access to the registry",
    "InvalidImageName": "correct server.image (or job_image)",
    "CreateContainerConfigError": "create the Secret or ConfigMap that the message names",
    "CreateContainerError": "look at the container runtime of the node that the evidence names",
    "RunContainerError": "look at the container runtime of the node that the evidence names",
}


@dataclass(frozen=True)
class Crash:
    """A container that ended with an error. ``ended`` is in seconds since the epoch."""

    pod: str
    node: str
    container: str
    exit_code: int
    reason: str
    ended: float
    restarted: bool
    """Whether it runs again: its last words are then in the previous log."""


@dataclass(frozen=True)
class Trouble:
    """Why a pod does not start, and since when, in seconds since the epoch."""

    pod: str
    node: str
    reason: str
    message: str
    since: float
    remedy: str


def name(pod: Manifest) -> str:
    """The pod's name."""
    return str(pod["metadata"]["name"])


def node(pod: Manifest) -> str:
    """Where it was placed, empty before that."""
    return str(pod.get("spec", {}).get("nodeName", ""))


def created(pod: Manifest) -> float:
    """When it was made, in seconds since the epoch; the API server keeps whole ones."""
    return clock.seconds(pod["metadata"].get("creationTimestamp")) or 0.0


def is_going(manifest: Manifest) -> bool:
    """Whether an object is being deleted."""
    return "deletionTimestamp" in manifest["metadata"]


def condition(manifest: Manifest, type_: str) -> Mapping[str, Any]:
    """A condition of the status, empty when it was never set."""
    found = manifest.get("status", {}).get("conditions") or []
    return next((one for one in found if one["type"] == type_), {})


def holds(manifest: Manifest, type_: str) -> bool:
    """Whether a condition is True."""
    return condition(manifest, type_).get("status") == "True"


def is_ready(pod: Manifest) -> bool:
    """Whether the pod takes requests and is to stay."""
    return holds(pod, "Ready") and not is_going(pod)


def crash(pod: Manifest) -> Crash | None:
    """The latest error exit of any container, of this or of its previous life."""
    crashes = list(_crashes(pod))
    return max(crashes, key=lambda one: one.ended) if crashes else None


def restarts(pod: Manifest) -> int:
    """How often containers of this pod were started again."""
    return sum(status.get("restartCount", 0) for status in _statuses(pod))


def trouble(pod: Manifest, now: float) -> Trouble | None:
    """What keeps a pod from starting, once it has lasted longer than anybody should wait for it."""
    found = _unscheduled(pod) or _stuck(pod)
    return found if found and now - found.since > PATIENCE_SECONDS else None


def blocked(pod: Manifest) -> str:
    """What keeps a pod from starting right now, in a few words; empty when nothing does."""
    found = _unscheduled(pod) or _stuck(pod)
    return f"{found.reason}: {found.message}" if found else ""


def _statuses(pod: Manifest) -> list[Manifest]:
    status = pod.get("status", {})
    return [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]


def _crashes(pod: Manifest) -> Iterator[Crash]:
    for status in _statuses(pod):
        for life in ("state", "lastState"):
            ended = status.get(life, {}).get("terminated")
            if ended and ended.get("exitCode", 0) != 0:
                yield Crash(
                    name(pod), node(pod), status["name"], ended["exitCode"], ended.get("reason", ""),
                    clock.seconds(ended.get("finishedAt")) or 0.0, restarted=life == "lastState",
                )  # fmt: skip


def _unscheduled(pod: Manifest) -> Trouble | None:
    placed = condition(pod, "PodScheduled")
    if placed.get("status") != "False" or placed.get("reason") != "Unschedulable":
        return None
    since = clock.seconds(placed.get("lastTransitionTime")) or created(pod)
    remedy = "free the nodes that the plan chose, or clear plan_rollout and what follows it to choose others"
    return Trouble(name(pod), node(pod), "Unschedulable", placed.get("message", ""), since, remedy)


def _stuck(pod: Manifest) -> Trouble | None:
    for status in _statuses(pod):
        waiting = status.get("state", {}).get("waiting", {})
        remedy = _STUCK_REASONS.get(waiting.get("reason", ""))
        if remedy:
            since = clock.seconds(pod.get("status", {}).get("startTime")) or created(pod)
            return Trouble(name(pod), node(pod), waiting["reason"], waiting.get("message", ""), since, remedy)
    return None
