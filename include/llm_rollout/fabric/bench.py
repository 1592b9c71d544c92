"""Measures by asking two members to run a tool, one as server and one as client."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from llm_rollout.fabric import perftest, tools
from llm_rollout.fabric.inventory import Member
from llm_rollout.fabric.places import Places
from llm_rollout.fabric.roster import Joined, LostError, Roster
from llm_rollout.fabric.rows import Failure, Measured, Result

_END_SECONDS = 2.0
"""What a server gets to end by itself after its client has."""


@dataclass(frozen=True)
class Load:
    """What every run puts on the fabric. ``gid_index`` None: each port's own usual one."""

    hcas: tuple[str, ...]
    seconds: int
    traffic: tools.Traffic = tools.DEFAULT_TRAFFIC
    gid_index: int | None = None


class MemberBench:
    """A ``schedule.Bench`` of the members of a roster."""

    def __init__(self, roster: Roster, places: Places, load: Load) -> None:
        """Tools listen on the ports above a member's own, one for each device."""
        self._roster, self._places, self._load = roster, places, load
        self._lost: set[int] = set()

    def name(self, index: int) -> str:
        """The node, else where it was expected."""
        member = self._roster.ever_joined().get(index)
        return member.node if member is not None else self._places.members[index].name

    def rate_gbps(self, server: int, client: int, hca: str) -> float | None:
        """The lower active rate of the two ports, None unless both are known."""
        members = self._roster.ever_joined()
        ports = [members[index].ports.get(hca) for index in (server, client) if index in members]
        rates = [port.rate_gbps for port in ports if port is not None and port.rate_gbps is not None]
        return min(rates) if len(rates) == 2 else None  # noqa: PLR2004 - both ends

    def bandwidth(self, server: int, client: int, hca: str) -> Result:
        """One run of ib_write_bw."""
        return self._measure("bandwidth", server, client, hca)

    def latency(self, server: int, client: int, hca: str) -> Result:
        """One run of ib_write_lat."""
        return self._measure("latency", server, client, hca)

    def gone(self, members: Sequence[int]) -> list[str]:
        """Of ``members``, those that were lost while measuring and did not come back."""
        return [
            f"{self.name(index)} left the probe before its end"
            for index in members
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
        port = place.port + 1 + self._load.hcas.index(hca)
        run = tools.Run(kind, hca, port, self._load.seconds, traffic=self._load.traffic)
        task = serving.start(replace(run, gid_index=self._gid_index(serving.member, hca)))
        try:
            if not task.wait_listening():
                return _read(kind, task.output(), serving)
            of_client = replace(run, host=place.host, gid_index=self._gid_index(asking.member, hca))
            result = _read(kind, asking.start(of_client).output(), asking)
            ended = task.output(grace_seconds=_END_SECONDS)
            return _together(result, _read(kind, ended, serving), stopped=ended.exit_code is None)
        finally:
            task.stop()

    def _gid_index(self, member: Member, hca: str) -> int | None:
        """The model's where it fixes one: the probe must fail where the model would."""
        if self._load.gid_index is not None or hca not in member.ports:
            return self._load.gid_index
        return member.ports[hca].gid_index(member.pod.interfaces)


def _together(result: Result, told: Result, *, stopped: bool) -> Result:
    """What both ends say about one run.

    The client's word counts, but the cause may be told by the server alone: the client then saw only a closed socket.
    ``stopped``: the server had to be ended, so that its end says nothing.
    """
    if isinstance(result, Measured) or not isinstance(told, Failure) or result.status == "bad":
        return result
    if told.status == "bad":
        return told
    return result if stopped else replace(result, detail=f"{told.detail}; {result.detail}")


def _read(kind: tools.Kind, output: perftest.Output, joined: Joined) -> Result:
    """The number, or the failure; one that is not of the path names the node where the tool failed."""
    result = perftest.bandwidth(output) if kind == "bandwidth" else perftest.latency(output)
    if isinstance(result, Measured) or result.status == "bad":
        return result
    return replace(result, detail=f"{joined.member.node}: {tools.PROGRAMS[kind]}: {result.detail}")
