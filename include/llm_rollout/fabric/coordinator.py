"""Index 0 of a probe: gather the members, compare what they say, measure, conclude."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from llm_rollout.errors import Transient
from llm_rollout.fabric import compare, evidence, inventory, nccl, sysfs
from llm_rollout.fabric.bench import Load, MemberBench
from llm_rollout.fabric.conclusion import Conclusion, conclude
from llm_rollout.fabric.inventory import Finding, Member
from llm_rollout.fabric.peer import Sources, take_part
from llm_rollout.fabric.places import Places
from llm_rollout.fabric.progress import Emit, Progress
from llm_rollout.fabric.roster import LostError, Roster
from llm_rollout.fabric.rows import Limits, Row
from llm_rollout.fabric.schedule import Schedule, counted

_BEGIN_UNTIL = 0.8
"""Part of the deadline after which no measurement is begun: what is running may take its whole timeout."""
_REPORT_SECONDS = 5.0
"""What ending and reporting take."""


@dataclass(frozen=True)
class Settings:
    """What to measure and how long to wait. No ``load.hcas`` means every device that any node has."""

    load: Load
    limits: Limits
    join_seconds: float
    deadline_seconds: float
    attempts: int = 3
    sources: Sources = field(default_factory=Sources)
    nccl_command: tuple[str, ...] = ()
    """What starts a node's part of a short NCCL run; empty: no such run."""

    @property
    def patience_seconds(self) -> float:
        """How long members are waited for: no more than half of the deadline, so that the others are measured."""
        return min(self.join_seconds, self.deadline_seconds / 2)


@dataclass(frozen=True)
class Outcome:
    """The conclusion with what it took and what the nodes said."""

    conclusion: Conclusion
    findings: tuple[Finding, ...]
    members: tuple[Member, ...]
    rounds: int
    """Rounds of disjoint pairs that the matrix took; those of further attempts stand in ``retry_rounds``."""
    retry_rounds: int
    seconds: float

    def as_report(self) -> dict[str, Any]:
        """The report line of ``llm-rollout probe``."""
        return {
            **self.conclusion.as_report(),
            "findings": [asdict(finding) for finding in self.findings],
            "members": [asdict(member) for member in self.members],
            "rounds": self.rounds,
            "retry_rounds": self.retry_rounds,
            "seconds": round(self.seconds, 1),
        }


def coordinate(places: Places, own: Member, settings: Settings, emit: Emit) -> Outcome:
    """Run the whole probe. ``Transient`` when the port to listen on is taken."""
    began = time.monotonic()
    try:
        roster = Roster(places.listen_host, places.own.port, len(places.members))
    except OSError as error:
        raise Transient(f"port {places.own.port} cannot be listened on: {error}; choose another with --port") from error
    with roster:
        its_end = began + 2 * settings.deadline_seconds
        itself = (places.coordinator, 0, own, settings.sources, its_end)
        threading.Thread(target=take_part, args=itself, daemon=True).start()
        roster.gather(began + settings.patience_seconds, _announce(places, emit))
        roster.close_doors()
        return _Probe(roster, places, settings, emit).run(began)


def _announce(places: Places, emit: Emit) -> Callable[[Member, int], None]:
    def announce(member: Member, joined: int) -> None:
        ports = [asdict(port) for port in member.ports.values()]
        waiting = {"event": "progress", "phase": "join", "done": joined, "total": len(places.members)}
        emit({**waiting, "node": member.node, "ports": ports, "error": member.error})

    return announce


class _Probe:
    """What is done once the members are there."""

    def __init__(self, roster: Roster, places: Places, settings: Settings, emit: Emit) -> None:
        self._roster, self._places, self._settings, self._emit = roster, places, settings, emit
        self._members = roster.ever_joined()
        there = sorted({hca for member in self._members.values() for hca in member.ports})
        self._load = settings.load if settings.load.hcas else replace(settings.load, hcas=tuple(there))

    def run(self, began: float) -> Outcome:
        """Findings first: where one is bad, no pair is measured."""
        members, hcas = tuple(self._members.values()), self._load.hcas
        found = compare.findings(members, hcas, self._load.gid_index)
        transport = inventory.transport(members, hcas)
        progress = Progress(self._emit)
        if any(finding.severity == "bad" for finding in found):
            conclusion = conclude([], found, transport, self._missing())
        else:
            bench = MemberBench(self._roster, self._places, self._load)
            rows, seen = self._measure(bench, progress, began)
            found += seen
            missing = [*self._missing(), *bench.gone(list(self._members))]
            conclusion = conclude(rows, found, transport, missing)
            if self._settings.nccl_command and conclusion.verdict in {"PASS", "DEGRADED"}:
                slow, not_run = self._nccl(began)
                found += slow
                conclusion = conclude(rows, found, transport, [*missing, *not_run])
        seconds = time.monotonic() - began
        return Outcome(conclusion, tuple(found), members, progress.rounds, progress.retry_rounds, seconds)

    def _measure(self, bench: MemberBench, progress: Progress, began: float) -> tuple[list[Row], list[Finding]]:
        settings, count = self._settings, len(self._places.members)
        begin_until = began + _BEGIN_UNTIL * settings.deadline_seconds
        schedule = Schedule(count, self._load.hcas, settings.limits, begin_until, settings.attempts)
        progress.announce(count, self._load)
        before = self._counters()
        tries = schedule.run(bench, progress.pair_done)
        after = self._counters()
        risen = {node: sysfs.risen(before[node], after[node]) for node in before if node in after}
        found = evidence.slow_in_company(list(tries.values())) + evidence.risen_counters(risen)
        return counted(tries), found

    def _nccl(self, began: float) -> tuple[list[Finding], list[str]]:
        """What all members' runs say; that it could not be made when one is lost or no time is left."""
        left_seconds = began + self._settings.deadline_seconds - time.monotonic() - _REPORT_SECONDS
        if left_seconds < _REPORT_SECONDS:
            return [], ["no time was left for the NCCL run"]
        try:
            heard = self._run_nccl(min(nccl.TIMEOUT_SECONDS, left_seconds))
        except LostError:
            return [], ["a member was lost during the NCCL run"]
        return nccl.judge(heard, self._line_gbytes())

    def _run_nccl(self, timeout_seconds: float) -> dict[str, nccl.Said]:
        """All members at once; their launchers meet at index 0 on the port above the tools' ports."""
        first, count = self._places.members[0], len(self._places.members)
        self._emit({"event": "progress", "phase": "nccl", "message": f"NCCL on {count} nodes"})
        tasks = {}
        for index, member in self._members.items():
            joined = self._roster.get(index)
            if joined is None:
                raise LostError
            environment = nccl.environment(index, count, first.host, first.port + 1 + len(self._load.hcas))
            tasks[member.node] = joined.start_nccl(self._settings.nccl_command, environment, timeout_seconds)
        return {node: nccl.Said(**task.answer()["said"]) for node, task in tasks.items()}

    def _line_gbytes(self) -> float | None:
        """What the ports of the slowest node carry together, in GB/s."""
        rates = [[member.ports[hca].rate_gbps for hca in self._load.hcas] for member in self._members.values()]
        known = [sum(rate for rate in of_node if rate) for of_node in rates if all(of_node)]
        return min(known) / 8 if len(known) == len(rates) else None

    def _counters(self) -> dict[str, sysfs.Counters]:
        """By node; a member that is gone is left out."""
        read = {}
        for index, member in self._members.items():
            joined = self._roster.get(index)
            try:
                read[member.node] = joined.counters(self._load.hcas) if joined else {}
            except LostError:
                continue
        return read

    def _missing(self) -> list[str]:
        waited = self._settings.patience_seconds
        absent = [place.name for index, place in enumerate(self._places.members) if index not in self._members]
        never = [f"{name} never joined within {waited:g} s" for name in absent]
        return never + [f"{member.node}: {member.error}" for member in self._members.values() if member.error]
