"""The logs of every start of every rank. Controllers delete a pod a second after it died, so what was read is kept."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import replace
from weakref import WeakKeyDictionary

from llm_rollout.coldstart import lives
from llm_rollout.coldstart.lives import Life
from llm_rollout.coldstart.secrets import without_keys
from llm_rollout.manifests.leader_worker_set import CONTAINER
from llm_rollout.ports import Manifest, PodLogs, Ports
from llm_rollout.steps import pod_state

LIVE_LINES = 400
"""Of a log that still grows: a whole start prints fewer."""
KEPT_LINES = 2000
KEPT_CHARACTERS = 256 * 1024
"""Of a log that is kept as evidence."""
_MOST_LIVES = 256

_Key = tuple[str, str, int]
_remembered: WeakKeyDictionary[PodLogs, OrderedDict[_Key, Life]] = WeakKeyDictionary()
"""By LeaderWorkerSet, pod and restart, for each connection. A cache of this process: verdicts do without it."""


def read(lws: Manifest | None, pods: tuple[Manifest, ...], ports: Ports, namespace: str) -> tuple[Life, ...]:
    """All lives of these pods and of those that were there before, with their logs; masked of secrets.

    Those that are about to vanish are read first.
    """
    owner = str((lws or {}).get("metadata", {}).get("uid", ""))
    memory = _remembered.setdefault(ports.logs, OrderedDict())
    for pod in sorted(pods, key=_urgency):
        for life in _lives(pod):
            key = (owner, life.uid, life.restart)
            memory[key] = _with_text(life, memory.get(key), ports, namespace)
            memory.move_to_end(key)
    while len(memory) > _MOST_LIVES:
        memory.popitem(last=False)
    there = {pod["metadata"].get("uid", "") for pod in pods}
    return tuple(
        life if life.uid in there else replace(life, gone=True)
        for (found, _, _), life in memory.items()
        if found == owner
    )


def _urgency(pod: Manifest) -> tuple[bool, bool]:
    return pod_state.crash(pod) is None, not pod_state.is_going(pod)


def _lives(pod: Manifest) -> Iterator[Life]:
    """The one before the present one, if there was one, and the present one."""
    status = lives.container(pod)
    restarts = int(status.get("restartCount", 0))
    last = (status.get("lastState") or {}).get("terminated")
    if restarts and last and "waiting" not in (status.get("state") or {}):
        yield Life(pod, restarts - 1)
    yield Life(pod, restarts)


def _with_text(life: Life, before: Life | None, ports: Ports, namespace: str) -> Life:
    if before is not None and before.end and before.text:
        return replace(life, text=before.text)  # It has ended: nothing is added any more.
    if life.started is None and not life.end:
        return life
    text = _asked(life, ports, namespace)
    return replace(life, text=without_keys(text)[-KEPT_CHARACTERS:] or (before.text if before else ""))


def _asked(life: Life, ports: Ports, namespace: str) -> str:
    """A log. During back-off the crash is in the present log, and the previous one may be gone already."""
    current = life.restart >= int(lives.container(life.pod).get("restartCount", 0))
    lines = KEPT_LINES if life.end else LIVE_LINES
    text = ports.logs.stamped(namespace, life.name, CONTAINER, lines, previous=not current)
    if not text and life.end and current:
        text = ports.logs.stamped(namespace, life.name, CONTAINER, lines, previous=True)
    return text
