"""An eye on a namespace beside the pipeline: when the cluster showed what."""

from __future__ import annotations

import contextlib
import datetime as dt
import threading
import time
from dataclasses import dataclass, field

from llm_rollout import kinds
from llm_rollout.errors import Transient
from llm_rollout.ports import Ports

WATCH_SECONDS = 0.2


@dataclass
class Seen:
    """What an observer beside the pipeline saw. Times as the cluster wrote them, in seconds since the epoch."""

    ends: dict[str, float] = field(default_factory=dict)
    """By pod."""
    events: dict[str, float] = field(default_factory=dict)
    """The first of each reason."""
    leaders: set[str] = field(default_factory=set)
    """UIDs of the leaders whose container ran: generations."""


class Watcher(threading.Thread):
    """Watches the pods and events of a namespace until told to stop."""

    def __init__(self, ports: Ports, namespace: str) -> None:
        super().__init__(daemon=True)
        self._ports = ports
        self._namespace = namespace
        self._over = threading.Event()
        self.seen = Seen()

    def run(self) -> None:
        """Look again and again."""
        while not self._over.wait(WATCH_SECONDS):
            with contextlib.suppress(Transient):
                self._look()

    def stop(self) -> Seen:
        """End it and say what it saw."""
        self._over.set()
        self.join()
        return self.seen

    def _look(self) -> None:
        for event in self._ports.cluster.list(kinds.EVENT, self._namespace):
            moment = seconds(event.get("firstTimestamp") or event.get("eventTime"))
            reason = str(event.get("reason"))
            self.seen.events[reason] = min(moment, self.seen.events.get(reason, moment))
        for pod in self._ports.cluster.list(kinds.POD, self._namespace):
            name = pod["metadata"]["name"]
            for status in pod.get("status", {}).get("containerStatuses") or ():
                for state in (status.get("lastState") or {}, status.get("state") or {}):
                    if ended := state.get("terminated"):
                        self.seen.ends.setdefault(name, seconds(ended["finishedAt"]))
                if is_leader(name) and status.get("containerID"):
                    self.seen.leaders.add(pod["metadata"]["uid"])


def is_worker(pod: str) -> bool:
    """Whether this is the name of a worker: set, group, rank."""
    return pod.count("-") == 3  # noqa: PLR2004 - cs01-aaaaaaaa-0-1


def is_leader(pod: str) -> bool:
    """Whether this is the name of a leader."""
    return pod.count("-") == 2  # noqa: PLR2004 - cs01-aaaaaaaa-0


def seconds(stamp: str | None) -> float:
    """A time of the API in seconds since the epoch."""
    return dt.datetime.fromisoformat(stamp).timestamp() if stamp else time.time()
