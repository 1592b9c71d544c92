"""Pure: container states and pod status in the words of a kubelet (Kubernetes 1.36)."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from devcluster.layout import node_address

Object = Mapping[str, Any]
LOST = 137
"""The exit code of a container whose end nobody saw, as a kubelet reports it."""


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
        ended = self.state.get("terminated")
        return int(ended["exitCode"]) if ended else None

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


def starts_again(policy: str, code: int, *, init: bool) -> bool:
    """Whether a container that ended with ``code`` is started again under its pod's restart policy."""
    if init:
        return code != 0 and policy != "Never"
    return policy == "Always" or (policy == "OnFailure" and code != 0)


def resumed(pod: Object, *, init: bool) -> list[ContainerState]:
    """What is known of the pod's (init) containers when an agent first sees it.

    Nothing runs at that moment: a container that an earlier agent reported as running has ended with that agent or
    with its node. It counts as restarted, or as failed for good where the pod never restarts, as after a reboot.
    """
    definitions, statuses = ("initContainers", "initContainerStatuses") if init else ("containers", "containerStatuses")
    known = {entry["name"]: entry for entry in (pod.get("status") or {}).get(statuses) or ()}
    first = "ContainerCreating" if init or not pod["spec"].get("initContainers") else "PodInitializing"
    found = []
    for definition in pod["spec"].get(definitions) or ():
        state = ContainerState(definition["name"], definition["image"], waiting(first))
        if before := known.get(state.name):
            _resume(state, before, pod["spec"].get("restartPolicy", "Always"), init=init)
        found.append(state)
    return found


def _resume(state: ContainerState, before: Object, policy: str, *, init: bool) -> None:
    state.restarts, state.last_state = before["restartCount"], before.get("lastState") or {}
    run = str(before.get("containerID") or "").removeprefix("devcluster://")
    if "running" in before["state"]:
        ended = terminated(LOST, before["state"]["running"]["startedAt"], run, reason="ContainerStatusUnknown")
    elif "terminated" in before["state"]:
        ended = before["state"]
    else:
        return
    if starts_again(policy, ended["terminated"]["exitCode"], init=init):
        state.restarts, state.last_state = state.restarts + 1, ended
    else:
        state.state, state.run, state.finished = ended, run, True


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


def phase(init: Sequence[ContainerState], main: Sequence[ContainerState]) -> str:
    """The pod's phase. The restart policy shows in ``finished``: who will start again has not finished."""
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
    current = phase(init, main)
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
