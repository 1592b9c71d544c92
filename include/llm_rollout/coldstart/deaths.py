"""How a rank ended, and which end of a generation came first."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from llm_rollout import clock
from llm_rollout.coldstart import happened, lives, remedies, starting
from llm_rollout.coldstart.first_cause import first
from llm_rollout.coldstart.lives import Life
from llm_rollout.coldstart.words import CONSEQUENCES, Cause
from llm_rollout.ports import Manifest

_HANGS_SECONDS = 10.0
"""A process that has said why it fails and then nothing more is taken for ended; engines exit within seconds."""
_KILLED = 137


class Death(BaseModel):
    """The end of one rank. Times are in seconds since the epoch."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    pod: str
    uid: str
    restart: int
    group: str
    role: str
    node: str
    born: float
    """When its pod was created."""
    ended: float
    exit_code: int | None = None
    reason: str = ""
    class_name: str
    message: str
    line: int | None = None
    at: float
    """When the cause showed."""

    @property
    def key(self) -> str:
        """Names the life."""
        return f"{self.uid}.{self.restart}"

    @property
    def cause(self) -> Cause:
        """As a cause."""
        return Cause(self.class_name, self.message, remedies.remedy(self.class_name), self.line, self.at, self.pod)


def find(found: Iterable[Life], events: Sequence[Manifest]) -> list[Death]:
    """The ends among these lives, first come first."""
    ends = [death for life in found if (death := _death(life, events))]
    return sorted(ends, key=lambda death: death.ended)


def hanging(found: Iterable[Life], events: Sequence[Manifest], now: float, *, at_once: bool = False) -> list[Death]:
    """Ranks whose log says why they fail, and who then said nothing for a while, though their process is there.

    ``at_once`` does not wait for the silence: others have died of what such a rank says.
    """
    silent = []
    for life in found:
        cause = starting.read(life.text).cause if life.text and not life.end and not life.gone else None
        if cause is None or cause.class_name in CONSEQUENCES:
            continue
        spoke = max([*lives.stamps(life.text)[-1:], cause.at or 0.0])
        if spoke and (at_once or now - spoke > _HANGS_SECONDS):
            silent.append(_made(life, cause, cause.at or spoke, events))
    return silent


def latest_generation(known: Iterable[Death]) -> list[Death]:
    """The deaths of the group that died last, of that one generation: pods that were created with one leader."""
    every = sorted({death.key: death for death in known}.values(), key=lambda death: death.ended)
    if not every:
        return []
    last = every[-1]
    group = [death for death in every if death.group == last.group]
    leaders = sorted({death.born for death in group if death.role == "leader"})
    return [death for death in group if bisect_right(leaders, death.born) == bisect_right(leaders, last.born)]


def first_of(found: Iterable[Death]) -> Death | None:
    """The death that came first, by the rule for causes."""
    by_cause = {death.cause: death for death in found}
    root = first(by_cause)
    return by_cause.get(root) if root is not None else None


def _death(life: Life, events: Sequence[Manifest]) -> Death | None:
    """None while it lives, and where it was asked to end and had said nothing of its own before."""
    shown = starting.read(life.text).cause if life.text else None
    ended = clock.seconds(life.end.get("finishedAt"))
    said = shown is not None and shown.class_name not in CONSEQUENCES
    known = said or _from_outside(life, events) is not None
    if not life.end and not (life.gone and known):
        return None
    asked = _asked_at(life.pod)
    if asked is not None and (ended is None or ended >= asked) and not known:
        return None
    return _made(life, shown, ended, events)


def _made(life: Life, shown: Cause | None, ended: float | None, events: Sequence[Manifest]) -> Death:
    moment = ended or (shown.at if shown else None) or max([*lives.stamps(life.text)[-1:], life.born])
    behind = lives.skew(life.pod)
    outside = _from_outside(life, events)
    class_name, message = outside or (
        (shown.class_name, shown.message) if shown else ("UNKNOWN", _without_a_word(life))
    )
    at = moment if outside or shown is None or shown.at is None else shown.at
    return Death(
        pod=life.name, uid=life.uid, restart=life.restart, group=lives.group(life.pod), role=life.role, node=life.node,
        born=life.born, ended=moment + behind, exit_code=life.end.get("exitCode"), reason=life.end.get("reason", ""),
        class_name=class_name, message=happened.one_line(message), line=shown.line if shown and not outside else None,
        at=at + behind,
    )  # fmt: skip


def _from_outside(life: Life, events: Sequence[Manifest]) -> tuple[str, str] | None:
    """Class and words where the container was ended by somebody else than its process."""
    end: Any = life.end
    if end.get("reason") == "OOMKilled":
        return "HOST_MEMORY", f"the kernel killed the container for its memory (OOMKilled, exit code {end['exitCode']})"
    if end.get("reason") in ("StartError", "ContainerCannotRun"):
        return "IMAGE", f"{end['reason']}: {end.get('message', '')}"
    for event in happened.about(events, life.pod, "Killing"):
        if "failed liveness probe" in event["message"] or "failed startup probe" in event["message"]:
            return "PROBE_KILLED", event["message"]
    for event in happened.about(events, life.pod, "Evicted"):
        return "EVICTED", event["message"]
    return None


def _without_a_word(life: Life) -> str:
    code, last = life.end.get("exitCode"), starting.read(life.text).last_line if life.text else ""
    killed = " (killed)" if code == _KILLED else ""
    return f"the container ended with exit code {code}{killed}; its last line: {last or '(none)'}"


def _asked_at(pod: Manifest) -> float | None:
    """When its deletion was asked for."""
    until = clock.seconds(pod["metadata"].get("deletionTimestamp"))
    return None if until is None else until - float(pod["metadata"].get("deletionGracePeriodSeconds", 0))
