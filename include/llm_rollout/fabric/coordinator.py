"""Index 0 of a probe: gather the members, compare what they say, measure, conclude."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from llm_rollout.errors import Transient
from llm_rollout.fabric import inventory, perftest, tools
from llm_rollout.fabric.conclusion import Conclusion, conclude
from llm_rollout.fabric.inventory import Member
from llm_rollout.fabric.peer import take_part
from llm_rollout.fabric.places import Places
from llm_rollout.fabric.roster import LostError, Roster
from llm_rollout.fabric.rows import Failure, Limits, Measured, Result
from llm_rollout.fabric.schedule import PairDone, Schedule

Emit = Callable[[dict[str, Any]], None]
_END_SECONDS = 2.0
"""What a server gets to end by itself after its client has."""

_BEGIN_UNTIL = 0.8
"""Part of the deadline after which no measurement is begun: what is running may take its whole timeout."""


@dataclass(frozen=True)
class Settings:
    """What to measure and how long to wait. No ``hcas`` means every device that any node has."""

    hcas: tuple[str, ...]
    limits: Limits
    seconds_per_pair: int
    join_seconds: float
    deadline_seconds: float

    @property
    def patience_seconds(self) -> float:
        """How long members are waited for: no more than half of the deadline, so that the others are measured."""
        return min(self.join_seconds, self.deadline_seconds / 2)


def coordinate(places: Places, own: Member, settings: Settings, emit: Emit) -> Conclusion:
    """Run the whole probe. ``Transient`` when the port to listen on is taken."""
    began = time.monotonic()
    try:
        roster = Roster(places.listen_host, places.own.port, len(places.members))
    except OSError as error:
        raise Transient(f"port {places.own.port} cannot be listened on: {error}; choose another with --port") from error
    with roster:
        its_end = began + 2 * settings.deadline_seconds
        threading.Thread(target=take_part, args=(places.coordinator, 0, own, its_end), daemon=True).start()
        roster.gather(began + settings.patience_seconds, _announce(places, emit))
        roster.close_doors()
        return _conclude(roster, places, settings, began + _BEGIN_UNTIL * settings.deadline_seconds, emit)


def _announce(places: Places, emit: Emit) -> Callable[[Member, int], None]:
    def announce(member: Member, joined: int) -> None:
        ports = [asdict(port) for port in member.ports.values()]
        waiting = {"event": "progress", "phase": "join", "done": joined, "total": len(places.members)}
        emit({**waiting, "node": member.node, "ports": ports, "error": member.error})

    return announce


def _conclude(roster: Roster, places: Places, settings: Settings, begin_until: float, emit: Emit) -> Conclusion:
    members = roster.ever_joined()
    hcas = settings.hcas or tuple(sorted({hca for member in members.values() for hca in member.ports}))
    found = inventory.findings(list(members.values()), hcas)
    transport = inventory.transport(list(members.values()), hcas)
    missing = _missing(members, places, settings)
    if any(finding.severity == "bad" for finding in found):
        return conclude([], found, transport, missing)
    schedule = Schedule(len(places.members), hcas, settings.limits, begin_until)
    bench = _Bench(roster, places, hcas, settings.seconds_per_pair)
    rows = schedule.run(bench, lambda done: emit(_progress(done)))
    return conclude(rows, found, transport, [*missing, *bench.gone(members)])


def _missing(members: dict[int, Member], places: Places, settings: Settings) -> list[str]:
    absent = [place.name for index, place in enumerate(places.members) if index not in members]
    never = [f"{name} never joined within {settings.patience_seconds:g} s" for name in absent]
    return never + [f"{member.node}: {member.error}" for member in members.values() if member.error]


def _progress(done: PairDone) -> dict[str, Any]:
    pair = " <-> ".join(done.rows[0].pair)
    return {
        "event": "progress",
        "phase": "retry" if done.retry else "measure",
        "round": done.round,
        "rounds": done.rounds,
        "done": done.done,
        "total": done.total,
        "pair": pair,
        "rows": [row.as_json() for row in done.rows],
    }


class _Bench:
    """Measures by asking two members to run a tool, one as server and one as client."""

    def __init__(self, roster: Roster, places: Places, hcas: Sequence[str], seconds: int) -> None:
        self._roster, self._places, self._hcas, self._seconds = roster, places, hcas, seconds
        self._lost: set[int] = set()

    def name(self, index: int) -> str:
        member = self._roster.ever_joined().get(index)
        return member.node if member is not None else self._places.members[index].name

    def rate_gbps(self, server: int, client: int, hca: str) -> float | None:
        members = self._roster.ever_joined()
        ports = [members[index].ports.get(hca) for index in (server, client) if index in members]
        rates = [port.rate_gbps for port in ports if port is not None and port.rate_gbps is not None]
        return min(rates) if len(rates) == 2 else None  # noqa: PLR2004 - both ends

    def bandwidth(self, server: int, client: int, hca: str) -> Result:
        return self._measure("bandwidth", server, client, hca)

    def latency(self, server: int, client: int, hca: str) -> Result:
        return self._measure("latency", server, client, hca)

    def gone(self, members: dict[int, Member]) -> list[str]:
        """Members that joined, were lost while measuring and did not come back."""
        return [
            f"{member.node} left the probe before its end"
            for index, member in members.items()
            if index in self._lost and self._roster.get(index) is None
        ]

    def _measure(self, kind: tools.Kind, server: int, client: int, hca: str) -> Result:
        try:
            return self._exchange(kind, server, client, hca)
        except LostError:
            absent = [index for index in (server, client) if self._roster.get(index) is None]
            self._lost.update(absent)
            names = " and ".join(self.name(index) for index in absent)
            return Failure(
                "could_not_run", f"{names} is not there" if absent else "the connection broke, and came back"
            )

    def _exchange(self, kind: tools.Kind, server: int, client: int, hca: str) -> Result:
        serving, asking = self._roster.get(server), self._roster.get(client)
        if serving is None or asking is None:
            raise LostError
        if without := [joined.member for joined in (serving, asking) if joined.member.error]:
            return Failure("could_not_run", f"{without[0].node}: {without[0].error}")
        place = self._places.members[server]
        run = tools.Run(kind, hca, place.port + 1 + self._hcas.index(hca), self._seconds)
        task = serving.start(run)
        try:
            if not task.wait_listening():
                return _read(kind, task.output())
            result = _read(kind, asking.start(replace(run, host=place.host)).output())
            told = _read(kind, task.output(grace_seconds=_END_SECONDS))
        finally:
            task.stop()
        return told if _is_bad(told) and not isinstance(result, Measured) else result


def _is_bad(result: Result) -> bool:
    """A failure of the RDMA path may be told by the server alone; the client then saw only a closed socket."""
    return isinstance(result, Failure) and result.status == "bad"


def _read(kind: tools.Kind, output: perftest.Output) -> Result:
    return perftest.bandwidth(output) if kind == "bandwidth" else perftest.latency(output)
