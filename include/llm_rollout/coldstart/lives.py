"""One run of one rank's container: what its pod said of it last, and what it printed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from llm_rollout import clock, names
from llm_rollout.ports import Manifest

_STAMP = re.compile(r"^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d) ", re.MULTILINE)
GROUP_LABEL = "leaderworkerset.sigs.k8s.io/group-index"


@dataclass(frozen=True)
class Life:
    """From one start of a container to its end. A pod has as many lives as its container was started."""

    pod: Manifest
    """As last seen."""
    restart: int
    """How often the container had been restarted before."""
    text: str = ""
    """What it printed, with the kubelet's time before each line where it is known."""
    gone: bool = False
    """Whether the pod is no longer there."""

    @property
    def name(self) -> str:
        """The pod's name."""
        return str(self.pod["metadata"]["name"])

    @property
    def uid(self) -> str:
        """The pod's UID."""
        return str(self.pod["metadata"].get("uid", ""))

    @property
    def role(self) -> str:
        """``leader`` or ``worker``."""
        return str(self.pod["metadata"].get("labels", {}).get(names.ROLE_LABEL, ""))

    @property
    def node(self) -> str:
        """Where the pod was placed, empty before that."""
        return str(self.pod.get("spec", {}).get("nodeName", ""))

    @property
    def born(self) -> float:
        """When the pod was created, in seconds since the epoch."""
        return clock.seconds(self.pod["metadata"].get("creationTimestamp")) or 0.0

    @property
    def state(self) -> Mapping[str, Any]:
        """The container's state in this life: ``running``, ``waiting`` or ``terminated`` with what belongs to it."""
        status = container(self.pod)
        now: Mapping[str, Any] = status.get("state") or {}
        last: Mapping[str, Any] = status.get("lastState") or {}
        backs_off = "waiting" in now and "terminated" in last
        return last if backs_off or self.restart < status.get("restartCount", 0) else now

    @property
    def end(self) -> Mapping[str, Any]:
        """Exit code, reason and time of the end; empty while it runs."""
        found: Mapping[str, Any] = self.state.get("terminated") or {}
        return found

    @property
    def started(self) -> float | None:
        """When the container started, in seconds since the epoch."""
        shown = self.state.get("running") or self.end
        return clock.seconds(shown.get("startedAt"))


def container(pod: Manifest) -> Mapping[str, Any]:
    """The status of the pod's only container; empty before the kubelet has one."""
    found = pod.get("status", {}).get("containerStatuses") or [{}]
    status: Mapping[str, Any] = found[0]
    return status


def group(pod: Manifest) -> str:
    """Which group of its LeaderWorkerSet a pod belongs to."""
    labels, name = pod["metadata"].get("labels", {}), str(pod["metadata"]["name"])
    if GROUP_LABEL in labels:
        return str(labels[GROUP_LABEL])
    leader = name if labels.get(names.ROLE_LABEL) == "leader" else name.rpartition("-")[0]
    return leader.rpartition("-")[2]


def stamps(text: str) -> list[float]:
    """The times of all lines that carry one, in seconds since the epoch."""
    return [moment(match) for match in _STAMP.finditer(text)]


def moment(match: re.Match[str]) -> float:
    """Seconds since the epoch of one stamp."""
    fraction = float(match[2] or 0)
    return datetime.fromisoformat(match[1] + match[3].replace("Z", "+00:00")).timestamp() + fraction


def unstamped(text: str) -> str:
    """The text as the container printed it."""
    return _STAMP.sub("", text)


def skew(pod: Manifest) -> float:
    """How many seconds the clock of the pod's node is behind, as far as cause and effect prove it.

    A kubelet acknowledges a pod (``status.startTime``, its own clock) only after the scheduler has placed it.
    """
    conditions = pod.get("status", {}).get("conditions") or []
    placed: Manifest = next(
        (one for one in conditions if one["type"] == "PodScheduled" and one.get("status") == "True"), {}
    )
    before = clock.seconds(placed.get("lastTransitionTime"))
    after = clock.seconds(pod.get("status", {}).get("startTime"))
    return max(0.0, before - after) if before is not None and after is not None else 0.0
