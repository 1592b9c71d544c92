"""What is known of one revision's groups: the LeaderWorkerSet, its pods, what they print, what happened to them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from llm_rollout import clock, kinds, names
from llm_rollout.coldstart import happened
from llm_rollout.coldstart.deaths import Death
from llm_rollout.coldstart.lives import Life
from llm_rollout.manifests.leader_worker_set import CONTAINER
from llm_rollout.ports import Manifest, Ports
from llm_rollout.steps import pod_state

if TYPE_CHECKING:
    from llm_rollout.steps.replanning import Elsewhere

GROUP_LABEL = "leaderworkerset.sigs.k8s.io/group-index"
TAIL_LINES = 40


@dataclass(frozen=True)
class GroupState:
    """One LeaderWorkerSet and all that belongs to it, as seen once."""

    lws: Manifest | None
    pods: tuple[Manifest, ...] = ()
    """By name."""
    events: tuple[Manifest, ...] = ()
    """Those about the LeaderWorkerSet and about its pods of now and before."""
    words: Mapping[str, str] | None = None
    """The last lines of each pod that is not ready, by pod."""
    lives: tuple[Life, ...] = ()
    """Every start of every rank that is still known, with its log; only where a cold start is waited out."""
    deaths: tuple[Death, ...] = ()
    """The ends of ranks that were noted in this attempt, by whoever saw them."""
    nodes: Mapping[str, Manifest] = field(default_factory=dict)
    """Those that the pods are on, where they may be read."""
    makes_room: bool = False
    """Whether another pod of the model is being deleted while one of these has no place."""
    durations: Mapping[str, float] = field(default_factory=dict)
    """How long each phase took in the model's latest start that succeeded, in seconds."""
    silence_seconds: float = 0.0
    """The longest silence of a log in that start."""
    elsewhere: Elsewhere | None = None
    """What leaving a node out needs, while a pause is on for one that is to blame."""
    kept_at: str = ""
    """Where the evidence of this start lies; empty while nothing is kept."""

    @property
    def leaders(self) -> tuple[Manifest, ...]:
        """The pods that serve."""
        return tuple(pod for pod in self.pods if pod["metadata"]["labels"].get(names.ROLE_LABEL) == "leader")

    @property
    def replicas(self) -> int:
        """How many groups there are to be."""
        return int((self.lws or {}).get("spec", {}).get("replicas", 0))

    @property
    def size(self) -> int:
        """Pods of one group."""
        return int((self.lws or {}).get("spec", {}).get("leaderWorkerTemplate", {}).get("size", 1))


def observe(ports: Ports, namespace: str, model: str, revision_id: str, lws: str) -> GroupState:
    """Read one revision without its logs and events."""
    found = ports.cluster.get(kinds.LEADER_WORKER_SET, namespace, lws)
    labels = {names.MODEL_LABEL: model, names.REVISION_LABEL: revision_id}
    pods = ports.cluster.list(kinds.POD, namespace, labels)
    return GroupState(found, tuple(sorted((pod for pod in pods if _in_group(pod)), key=pod_state.name)))


def with_words(state: GroupState, ports: Ports, namespace: str) -> GroupState:
    """With the last lines of the pods that are not ready, and the events."""
    words = {
        pod_state.name(pod): last_words(ports, namespace, pod) for pod in state.pods if not pod_state.is_ready(pod)
    }
    return replace(with_events(state, ports, namespace), words=words)


def with_events(state: GroupState, ports: Ports, namespace: str) -> GroupState:
    """With what happened to it."""
    return replace(state, events=_events(state.lws, ports, namespace))


def last_words(ports: Ports, namespace: str, pod: Manifest) -> str:
    """The end of what a pod printed. After a restart the crash is in the previous log, during back-off in this one."""
    crash = pod_state.crash(pod)
    lives = (True, False) if crash and crash.restarted else (False, True)
    for previous in lives if crash else (False,):
        text = ports.logs.tail(namespace, pod_state.name(pod), CONTAINER, TAIL_LINES, previous=previous)
        if text:
            return text
    return ""


def not_serving(state: GroupState) -> str:
    """What is missing until every group serves as one; empty when they all do.

    Available alone is not enough: it may be of an earlier generation, and it has been reported with Pending workers.
    """
    lws = state.lws
    if lws is None:
        return "the LeaderWorkerSet does not exist"
    status = lws.get("status", {})
    ready = sum(map(pod_state.is_ready, state.pods))
    wanted = state.replicas * state.size
    checks = {
        "observed generation {} of {}": (status.get("observedGeneration", 0), lws["metadata"].get("generation", 0)),
        "{} of {} groups updated": (status.get("updatedReplicas", 0), state.replicas - _partition(lws)),
        "{} of {} groups ready": (status.get("readyReplicas", 0), state.replicas),
        "{} of {} pods ready": (ready, wanted),
    }
    missing = [text.format(*numbers) for text, numbers in checks.items() if numbers[0] < numbers[1]]
    if not pod_state.holds(lws, "Available"):
        missing.append("condition Available is not True")
    if pod_state.holds(lws, "UpdateInProgress"):
        missing.append("condition UpdateInProgress is True")
    return ", ".join(missing)


def _partition(lws: Manifest) -> int:
    """The groups before it keep their revision, see ``manifests.leader_worker_set.serving``."""
    strategy = lws.get("spec", {}).get("rolloutStrategy", {})
    return int(strategy.get("rollingUpdateConfiguration", {}).get("partition", 0))


def warnings(state: GroupState, most: int = 3) -> list[str]:
    """The newest warnings, newest first."""
    bad = sorted((event for event in state.events if event.get("type") == "Warning"), key=last_seen, reverse=True)
    return [f"{event['involvedObject'].get('name')}: {event['reason']}: {event['message']}" for event in bad[:most]]


def _in_group(pod: Manifest) -> bool:
    """A Job's pod may carry the revision too, but has no role."""
    return names.ROLE_LABEL in pod["metadata"].get("labels", {})


def _events(lws: Manifest | None, ports: Ports, namespace: str) -> tuple[Manifest, ...]:
    """The core API lists the events of both APIs."""
    if lws is None:
        return ()
    name, uid = lws["metadata"]["name"], lws["metadata"]["uid"]
    born = clock.seconds(lws["metadata"].get("creationTimestamp")) or 0.0
    return tuple(event for event in ports.cluster.list(kinds.EVENT, namespace) if _concerns(event, name, uid, born))


def _concerns(event: Manifest, name: str, uid: str, born: float) -> bool:
    about = event.get("involvedObject", {})
    if about.get("kind") == "LeaderWorkerSet":
        return bool(about.get("uid") == uid)
    mine = about.get("name") == name or str(about.get("name", "")).startswith(f"{name}-")
    return mine and last_seen(event) >= born


def last_seen(event: Manifest) -> float:
    """When an event happened last, in seconds since the epoch."""
    return happened.last(event)


def moments(texts: Iterable[str | None]) -> list[float]:
    """The times among these, in seconds since the epoch."""
    return [found for text in texts if (found := clock.seconds(text)) is not None]
