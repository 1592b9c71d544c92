"""Where each rank of a starting group is, from its pod, its events and its log; and which one the others wait for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from llm_rollout import clock
from llm_rollout.coldstart import happened, lives, reading
from llm_rollout.coldstart.lives import Life
from llm_rollout.coldstart.words import PHASES, Progress, Reading
from llm_rollout.ports import Manifest

_ORDER = {phase: index for index, phase in enumerate(PHASES)}
_TOGETHER = _ORDER["compile"]
"""From here on a group moves as one: the engine compiles and measures only after every rank has loaded."""
_LOADED_WITH = _ORDER["rendezvous"]
_IMAGE_TROUBLE = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName")


@dataclass(frozen=True)
class Rank:
    """One rank of a group. Times are in seconds since the epoch, by the clock of its node."""

    pod: str
    node: str
    group: str
    leads: bool
    ready: bool
    phase: str
    progress: Progress | None
    began: float
    """When the phase began, where it tells how far it is; else when its container started or was awaited."""
    moved: float
    """The last sign of progress."""
    gap: float
    """The longest silence of its log so far, in seconds."""
    line: str
    """What it said last."""

    @property
    def percent(self) -> float | None:
        """How far the phase is."""
        return self.progress.percent if self.progress else None


@lru_cache(maxsize=256)
def read(text: str) -> Reading:
    """The reading of a log; the same text is read once."""
    return reading.read(text)


def ranks(found: Iterable[Life], events: Sequence[Manifest]) -> tuple[Rank, ...]:
    """The present life of every pod that is to stay, by name."""
    newest: dict[str, Life] = {}
    for life in sorted(found, key=lambda one: (one.name, one.born, one.restart)):
        if not life.gone and "deletionTimestamp" not in life.pod["metadata"]:
            newest[life.name] = life
    return tuple(_rank(life, events) for life in newest.values())


def groups(found: Iterable[Rank]) -> dict[str, list[Rank]]:
    """Ranks by group."""
    sorted_by_group: dict[str, list[Rank]] = {}
    for rank in found:
        sorted_by_group.setdefault(rank.group, []).append(rank)
    return sorted_by_group


def behind(group: Sequence[Rank]) -> list[Rank]:
    """Those ranks of a group that the others wait for, the furthest behind first."""
    least = min(_place(rank, group) for rank in group)
    waited_for = [rank for rank in group if _place(rank, group) == least]
    return sorted(waited_for, key=lambda rank: (_ORDER[rank.phase], rank.percent if rank.percent is not None else 0.0))


def reached(text: str) -> dict[str, float]:
    """When a log first showed each phase, in seconds since the epoch; phases without a time are left out."""
    lines = text.splitlines(keepends=True)
    found: dict[str, float] = {}
    start = 0
    while start < len(lines):
        phase = read("".join(lines[: start + 1])).phase
        times = lives.stamps(lines[start])
        if phase is not None and phase not in found and times:
            found[phase] = times[0]
        start = _next_change(lines, start, phase)
    return found


def _shown_since(text: str, phase: str) -> float | None:
    """When the log first showed this phase, in seconds since the epoch."""
    lines = text.splitlines(keepends=True)
    earlier = [known for known in PHASES if _ORDER[known] < _ORDER[phase]]
    start = _next_change(lines, -1, earlier[-1]) if earlier else 0
    times = lives.stamps(lines[start]) if start < len(lines) else []
    return times[0] if times else None


def _next_change(lines: Sequence[str], start: int, phase: str | None) -> int:
    """The first line after ``start`` at which the reading shows a later phase: phases never go back, so halves do."""
    low, high = start + 1, len(lines)
    while low < high:
        middle = (low + high) // 2
        if _rises(phase, read("".join(lines[: middle + 1])).phase):
            high = middle
        else:
            low = middle + 1
    return low


def _rises(before: str | None, now: str | None) -> bool:
    return now is not None and (before is None or _ORDER[now] > _ORDER[before])


def _place(rank: Rank, group: Sequence[Rank]) -> int:
    """Where a rank counts as being. What has loaded is as far as the engine that works with it, however silent."""
    front = max(_ORDER[one.phase] for one in group)
    own = _ORDER[rank.phase]
    return front if front >= _TOGETHER and own >= _LOADED_WITH else own


def _rank(life: Life, events: Sequence[Manifest]) -> Rank:
    pod, ahead = life.pod, lives.skew(life.pod)
    phase, since, line = _before_it_runs(life, events)
    shown = read(life.text) if life.text else None
    moved, progress = since, None
    if phase == "process" and shown is not None:
        phase, progress = shown.phase or "process", shown.progress
        line = shown.last_line or line
        moved = max(since, shown.moved_at or 0.0)
        since = _shown_since(life.text, phase) or since if progress else since
    times = lives.stamps(life.text)
    leads = life.role == "leader"
    ready = _is_ready(pod)
    return Rank(
        life.name, life.node, lives.group(pod), leads, ready, "serving" if leads and ready else phase, progress,
        since, moved + ahead, max((after - before for before, after in pairwise(times)), default=0.0), line,
    )  # fmt: skip


def _before_it_runs(life: Life, events: Sequence[Manifest]) -> tuple[str, float, str]:
    """The phase of the cluster, since when, and what was said last; ``process`` once a container has run."""
    pod, created = life.pod, life.born
    placed = _condition(pod, "PodScheduled")
    placed_at = clock.seconds(placed.get("lastTransitionTime")) or created
    if not life.node:
        return "scheduling", placed_at, str(placed.get("message", ""))
    if life.started is not None or life.text:
        return "process", life.started or placed_at, ""
    waiting = (life.state.get("waiting") or {}).get("reason", "")
    pulling = list(happened.about(events, pod, "Pulling"))
    pulled = list(happened.about(events, pod, "Pulled", "Created"))
    if pulled and waiting not in _IMAGE_TROUBLE:
        return "process", max(map(happened.last, pulled)), str(waiting)
    if pulling or waiting in _IMAGE_TROUBLE:
        return "image_pull", min(map(happened.first, pulling), default=placed_at), _said(life, events, str(waiting))
    attached = list(happened.about(events, pod, "SuccessfulAttachVolume"))
    return "volumes", max([placed_at, *map(happened.last, attached)]), _said(life, events, str(waiting))


def _said(life: Life, events: Sequence[Manifest], otherwise: str) -> str:
    told = list(happened.about(events, life.pod, "FailedMount", "FailedAttachVolume", "Failed", "Pulling"))
    newest = max(told, key=happened.last, default=None)
    return happened.one_line(newest["message"]) if newest else otherwise


def _condition(pod: Manifest, type_: str) -> Manifest:
    found = pod.get("status", {}).get("conditions") or []
    return next((one for one in found if one["type"] == type_), {})


def _is_ready(pod: Manifest) -> bool:
    return _condition(pod, "Ready").get("status") == "True" and "deletionTimestamp" not in pod["metadata"]
