"""Which group has stopped getting anywhere: its phase has shown no sign of progress for longer than its patience."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from llm_rollout import clock
from llm_rollout.coldstart import patience, starting
from llm_rollout.coldstart.starting import Rank
from llm_rollout.coldstart.words import CLUSTER_PHASES, Cause

SLOWEST_BYTES_PER_SECOND = 100e6
"""A node's own read of a shared disk: 124 MB/s were measured with the default loader where nothing was tuned."""


@dataclass(frozen=True)
class Expected:
    """What a start may take, from the spec, from the plan and from earlier starts of the same model."""

    asked: Mapping[str, float] = field(default_factory=dict)
    """``timing.patience``, in seconds by phase."""
    weights_bytes: int = 0
    durations: Mapping[str, float] = field(default_factory=dict)
    """How long each phase took in the latest start that succeeded, in seconds."""
    silence: float = 0.0
    """The longest silence of a log in that start, in seconds."""


def find(ranks: Iterable[Rank], expected: Expected, now: float) -> Cause | None:
    """The stall that began first, if any group has stalled. ``now`` is in seconds since the epoch."""
    stalls = [stall for group in starting.groups(ranks).values() if (stall := _stalled(group, expected, now))]
    return min(stalls, key=lambda stall: stall.at or 0.0, default=None)


def patience_seconds(rank: Rank, gap: float, expected: Expected) -> float:
    """How long this rank may be silent where it is.

    The bar over the weights may show only when the last one is read: until it has shown, the slowest disk is believed.
    """
    cluster = rank.phase in CLUSTER_PHASES
    longest = expected.durations.get(rank.phase, 0.0) if cluster else max(gap, expected.silence)
    found = patience.seconds(rank.phase, expected.asked, longest)
    unseen = rank.phase == "weights" and rank.progress is None and "weights" not in expected.asked
    return max(found, expected.weights_bytes / SLOWEST_BYTES_PER_SECOND) if unseen else found


def _stalled(group: list[Rank], expected: Expected, now: float) -> Cause | None:
    if any(rank.leads and rank.ready for rank in group):
        return None
    slow = starting.behind(group)
    rank, moved = slow[0], max(one.moved for one in slow)
    allowed = patience_seconds(rank, max(one.gap for one in group), expected)
    silent = now - moved
    if silent <= patience.tolerated(allowed):
        return None
    where = f"pod {rank.pod}" + (f" on {rank.node}" if rank.node else "")
    percent = f" at {rank.percent:.0f} %" if rank.percent is not None else ""
    message = (
        f"{where} has been in phase {rank.phase}{percent} without a sign of progress for {silent:.0f} s (since "
        f"{clock.rfc3339(moved)}; its patience is {allowed:.0f} s); it last said: {rank.line or '(nothing)'}"
    )
    return Cause("STALLED", message, _remedy(rank.phase), at=moved, source=rank.pod)


def _remedy(phase: str) -> str:
    look = {
        "scheduling": "look whether the scheduler runs",
        "volumes": "look at the events of store.claim and at the node's mounts",
        "image_pull": "look at the registry and the node's disk, or pull server.image onto the nodes before",
        "rendezvous": "look whether the pods of the group reach each other (network policies, server.network)",
        "weights": "look at the disk behind store.claim from that node",
    }.get(phase, "look at the process on that node")
    return f"{look}; if it only needs longer, raise timing.patience.{phase} (and timing.cold_start_seconds)"
