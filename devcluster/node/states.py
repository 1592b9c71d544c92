"""Pure: container states and pod status in the words of a kubelet (Kubernetes 1.36)."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from devcluster.layout import node_address

Object = Mapping[str, Any]


@dataclass
class ContainerState:
    """What is known of one container of a pod."""

    name: str
    image: str
    state: dict[str, Any] = field(default_factory=lambda: waiting("ContainerCreating"))
    last_state: dict[str, Any] = field(default_factory=dict)
    restarts: int = 0
    started: bool = False
    ready: bool = False
    run: str = ""
    finished: bool = False
    """It has ended and will not be started again."""

    @property
    def exit_code(self) -> int | None:
        """The exit code of a container that has ended."""
        return self.state.get("terminated", {}).get("exitCode")

    def status(self) -> dict[str, Any]:
        """The entry in containerStatuses."""
        return {
            "name": self.name,
            "image": self.image,
            "imageID": f"devcluster://{self.image}",
            "containerID": f"devcluster://{self.run}" if self.run else "",
            "state": self.state,
            "lastState": self.last_state,
            "restartCount": self.restarts,
            "started": self.started,
            "ready": self.ready,
        }


def now() -> str:
    """The time as the API writes it."""
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    """A container that does not run yet."""
    return {"waiting": {"reason": reason, **({"message": message} if message else {})}}


def running(started: str) -> dict[str, Any]:
    """A container that runs."""
    return {"running": {"startedAt": started}}


def terminated(code: int, started: str, run: str, message: str = "", reason: str = "") -> dict[str, Any]:
    """A container that has ended."""
    detail = {
        "exitCode": code,
        "reason": reason or ("Completed" if code == 0 else "Error"),
        "startedAt": started,
        "finishedAt": now(),
        "containerID": f"devcluster://{run}",
    }
    return {"terminated": detail | ({"message": message} if message else {})}


def phase(init: Sequence[ContainerState], main: Sequence[ContainerState], policy: str) -> str:
    """The pod's phase."""
    if any(state.finished and state.exit_code for state in init):
        return "Failed"
    if all(state.finished for state in main):
        return "Failed" if any(state.exit_code for state in main) else "Succeeded"
    begun = all("waiting" not in state.state or state.restarts for state in main)
    return "Running" if begun and all(state.exit_code == 0 for state in init) else "Pending"


def pod_status(
    pod: Object, address: str, init: Sequence[ContainerState], main: Sequence[ContainerState], started: str
) -> dict[str, Any]:
    """The whole status, without the times of its conditions."""
    node = node_address(pod["spec"]["nodeName"])
    current = phase(init, main, pod["spec"].get("restartPolicy", "Always"))
    ready = current == "Running" and all(state.ready for state in main)
    done = current == "Succeeded"
    initialized = all(state.exit_code == 0 for state in init)
    status: dict[str, Any] = {
        "phase": current,
        "startTime": started,
        "hostIP": node,
        "hostIPs": [{"ip": node}],
        "conditions": [
            _condition("PodReadyToStartContainers", bool(address), ""),
            _condition("Initialized", initialized, "PodCompleted" if done else "ContainersNotInitialized"),
            _condition("ContainersReady", ready, "PodCompleted" if done else "ContainersNotReady"),
            _condition("Ready", ready, "PodCompleted" if done else "ContainersNotReady"),
        ],
        "containerStatuses": [state.status() for state in main],
    }
    if init:
        status["initContainerStatuses"] = [state.status() for state in init]
    if address:
        status |= {"podIP": address, "podIPs": [{"ip": address}]}
    return status


def _condition(kind: str, holds: bool, reason: str) -> dict[str, Any]:  # noqa: FBT001 - a condition is a bool
    return {"type": kind, "status": str(bool(holds)), "reason": "" if holds else reason}


def with_times(conditions: Sequence[Object], before: Sequence[Object]) -> list[dict[str, Any]]:
    """Conditions with their transition times: kept where the status has not changed."""
    known = {condition["type"]: condition for condition in before}
    stamped = []
    for condition in conditions:
        old = known.get(condition["type"], {})
        same = old.get("status") == condition["status"]
        since = old.get("lastTransitionTime") if same else None
        stamped.append({**condition, "lastProbeTime": None, "lastTransitionTime": since or now()})
    return stamped
