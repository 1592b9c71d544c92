"""What a starting engine's log shows: the phase, how much of it is done, and why the start failed."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from llm_rollout.coldstart import lines, phases
from llm_rollout.coldstart.endings import GENERIC, STOPPED, TERMINATED
from llm_rollout.coldstart.incidents import Incident, Incidents, Strength
from llm_rollout.coldstart.lines import Line
from llm_rollout.coldstart.remedies import remedy
from llm_rollout.coldstart.secrets import without_keys
from llm_rollout.coldstart.words import CONSEQUENCES, LOG_PHASES, Cause, Progress, Reading

_SILENT: Final = frozenset({"DEBUG", "INFO", "WARNING"})
"""Levels at which the words of a cause are advice."""
_WORKERS: Final = ("Worker", "VllmWorker", "RayWorker", "rank")
_ENGINE_PARTS: Final = ("Engine", "Ray", *_WORKERS)
_NO_ANSWER = re.compile(r"RPC call to \S+ timed out")
"""What a lost node looks like; where all ranks share one node, one of them is only slow."""
_SEVERAL_NODES = re.compile(r"'nnodes': [2-9]|--nnodes[ =][2-9]|headless multiproc executor|node_rank_within_dp=[1-9]")
_WORLDS = re.compile(r"\bworld_size=(\d+), local_world_size=(\d+)")
_REQUEST = re.compile(r"(?:Received|Added|Generated) re\w+ ")
"""What clients ask is no word of the engine's."""
_LONGEST_SAYING = 400
_LONGEST_MESSAGE = 500
_MOST_INCIDENTS = 5000


@dataclass
class _Life:
    """What one run of the engine wrote."""

    phase: int = -1
    progress: Progress | None = None
    moved: str = ""
    banners: set[str] = field(default_factory=set)
    incidents: list[Incident] = field(default_factory=list)
    stop: Incident | None = None
    """The first sign that somebody asked it to stop."""
    quiet_stop: Incident | None = None
    """The first sign of an end in order, which errors lead to as well."""
    advanced_order: int = -1
    """When the last phase was reached."""
    up_order: int = -1
    serving_order: int | None = None
    moved_orders: dict[str, int] = field(default_factory=dict)
    several_nodes: bool = False
    only_profiled: bool = False
    """Graphs are its last phase only because they were measured for the KV cache's sake."""

    def reach(self, phase: int, order: int) -> None:
        """Begin another phase. ``order`` is -1 for one that began before the first line."""
        self.phase, self.progress, self.advanced_order = phase, None, order
        if phase >= phases.ENGINE_UP:
            self.up_order = order
        if phase == phases.SERVING:
            self.serving_order = order


def read(text: str, year: int | None = None) -> Reading:
    """What the log of one container shows.

    ``year`` completes stamps that name none. A log that goes on, or serves, has no cause; one that was restarted is
    read from its last start, unless that one shows neither an end nor a served request: then the cause is that of the
    start before. Never raises.
    """
    lives, last = _lived(lines.lines(text))
    life = lives[-1]
    found = _cause_of(life)
    if found is None and life.phase < phases.ENGINE_UP:
        found = next((each for each in map(_cause_of, reversed(lives[:-1])) if each is not None), None)
        found = None if found is not None and found.class_name == "TERMINATED" else found
    stopped = found is not None and found.class_name == "TERMINATED"
    phase = "stopped" if stopped else LOG_PHASES[max(life.phase, 0)] if last else None
    return Reading(
        phase=phase,
        progress=None if stopped else life.progress,
        cause=_told(found, year) if found is not None else None,
        last_line=shown(last),
        moved_at=_exact(life.moved, year),
    )


def shown(text: str) -> str:
    """``text`` on one line, of bounded length, without secrets."""
    line = without_keys(" ".join(text.split()))
    return line if len(line) <= _LONGEST_MESSAGE else f"{line[: _LONGEST_MESSAGE - 1]}…"


def _lived(all_lines: Iterable[Line]) -> tuple[list[_Life], str]:
    """The lives that the lines tell of, and the last words. A line without a stamp has that of the one before."""
    lives, incidents, last = [_Life()], Incidents(), ""
    stamps: dict[str, str] = {}
    for order, line in enumerate(all_lines):
        stamp = stamps[line.pod] = line.stamp or stamps.get(line.pod, "")
        last = line.text
        if line.level in _SILENT or line.level == "":
            _advance(lives, line, order, stamp)
        _note(lives[-1], line, order, stamp, incidents)
    return lives, last


def _advance(lives: list[_Life], line: Line, order: int, stamp: str) -> None:
    """Take note of the phase and the progress that a line shows."""
    text, life = line.text.lstrip(), lives[-1]
    if life.phase <= phases.RENDEZVOUS and _spans_nodes(text):
        life.several_nodes = True
    if life.phase == phases.SERVING and not phases.is_banner(text):
        return
    reached = phases.phase_of(text)
    if reached is None:
        return
    if phases.is_banner(text):
        if line.pod in life.banners or _has_ended(life, line.pod):
            life = _Life()
            lives.append(life)
        life.banners.add(line.pod)
    if reached > life.phase or (reached == phases.KV_CACHE and life.only_profiled):
        life.reach(reached, -1 if phases.is_traffic(text) else order)
        life.only_profiled = phases.is_profiling(text)
        _moved(life, line, order, stamp)
    elif phases.moves(text) and not phases.is_bar(text):
        _moved(life, line, order, stamp)
    told = phases.progress_of(text)
    if told is not None and reached == life.phase:
        if told != life.progress and phases.is_bar(text):
            life.moved = stamp
        life.progress = told


def _spans_nodes(text: str) -> bool:
    worlds = _WORLDS.search(text) if "world_size" in text else None
    return (worlds is not None and worlds[1] != worlds[2]) or _SEVERAL_NODES.search(text) is not None


def _moved(life: _Life, line: Line, order: int, stamp: str) -> None:
    life.moved = stamp
    if line.source:
        life.moved_orders[line.source] = order


def _has_ended(life: _Life, pod: str) -> bool:
    mine = (each for each in life.incidents if each.line.pod == pod)
    return life.stop is not None or (not life.banners and any(mine))


def _note(life: _Life, line: Line, order: int, stamp: str, incidents: Incidents) -> None:
    """Take note of an end or an error that a line tells of."""
    stamped = (
        line if line.stamp or not stamp else Line(line.number, line.text, line.level, line.source, stamp, line.pod)
    )
    if TERMINATED.search(line.text, 0, _LONGEST_SAYING) and not _REQUEST.match(line.text):
        strength = Strength.GENERIC if "EngineCore: trigger" in line.text else Strength.KNOWN
        sign = Incident("TERMINATED", strength, line.text, stamped, order)
        if strength is Strength.KNOWN:
            life.stop = life.stop or sign
        else:
            life.quiet_stop = life.quiet_stop or sign
        if line.level in _SILENT:
            return
    if line.level in _SILENT:
        if line.level == "INFO" and STOPPED.match(line.text):
            life.quiet_stop = life.quiet_stop or Incident("TERMINATED", Strength.GENERIC, line.text, stamped, order)
        return
    incident = incidents.of(stamped, order)
    if incident is not None and len(life.incidents) < _MOST_INCIDENTS:
        life.incidents.append(incident)


def _cause_of(life: _Life) -> Incident | None:
    """The incident that ended this life; None where it goes on."""
    standing = [each for each in life.incidents if _stands(each, life)]
    deaths = [each.order for each in life.incidents if each.uncaught or GENERIC.search(each.message)]
    if life.serving_order is not None:
        standing = _while_serving(standing, life.serving_order, deaths)
    ended = max((each.order for each in standing if not each.soft), default=-1)
    standing = [each for each in standing if not each.soft or deaths or ended > each.order]
    if life.stop is not None:
        standing = [each for each in standing if each.order < life.stop.order]
    for each in standing:
        if life.several_nodes and _NO_ANSWER.search(each.message):
            each.class_name = "PEER_LOST"
    saying = [each for each in standing if each.strength is not Strength.GENERIC and not each.replaced]
    chosen = _root(saying)
    if chosen is not None or life.stop is not None:
        return chosen or life.stop
    return standing[0] if standing else life.quiet_stop


def _root(incidents: list[Incident]) -> Incident | None:
    """The first one that names a root; else the first at all."""
    told = [each for each in incidents if not each.bare] or incidents
    if told and incidents[0].order < told[0].order:
        told = incidents
    named = (each for each in told if each.strength is Strength.KNOWN and each.class_name not in CONSEQUENCES)
    return next(named, told[0] if told else None)


def _stands(incident: Incident, life: _Life) -> bool:
    """Whether the start did not get over it: neither its process nor the engine went on."""
    if incident.class_name == "RENDEZVOUS" and incident.order < life.advanced_order:
        return False
    went_on = life.moved_orders.get(incident.line.source, -1) if incident.line.source else -1
    return incident.order > max(life.up_order, went_on)


def _while_serving(incidents: list[Incident], since: int, deaths: list[int]) -> list[Incident]:
    """Those that ended a serving engine: failed requests are none, the engine's own are, and all from its death on."""
    died = min((order for order in deaths if order > since), default=None)
    if died is None:
        return []
    return [each for each in incidents if each.order >= died or each.line.source.startswith(_ENGINE_PARTS)]


def _told(incident: Incident, year: int | None) -> Cause:
    return Cause(
        incident.class_name,
        shown(incident.message),
        remedy(incident.class_name),
        incident.line.number,
        lines.seconds(incident.line.stamp, year) if incident.line.stamp else None,
        in_worker=incident.line.source.startswith(_WORKERS),
    )


def _exact(stamp: str, year: int | None) -> float | None:
    """The time of a stamp, where its year is known."""
    return lines.seconds(stamp, year) if stamp and (year is not None or lines.names_a_year(stamp)) else None
