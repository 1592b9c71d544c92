"""Why a start failed: the first cause in time over all ranks, from what the cluster and what the logs say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from llm_rollout.coldstart import deaths, first_cause, lives, obstacles
from llm_rollout.coldstart.deaths import Death
from llm_rollout.coldstart.lives import Life
from llm_rollout.coldstart.obstacles import Around
from llm_rollout.coldstart.words import CONSEQUENCES, Cause

_SETTLE_SECONDS = 2.0
"""Ranks die one after the other: so long after the last death a consequence alone is not believed."""
_PEER_SECONDS = 8.0
"""A rank that lost its peer has a peer that dies: one that still counts as running gets so long to say of what."""


@dataclass(frozen=True)
class Diagnosis:
    """What is known of a failure."""

    cause: Cause | None = None
    settled: bool = True
    """False while ranks may still speak: then nothing is to be done yet."""


def diagnose(known: Sequence[Death], found: Sequence[Life], around: Around, now: float) -> Diagnosis:
    """The first cause of the generation that died last, or what keeps the present one from starting.

    Args:
        known: Deaths that were noted before.
        found: All lives that are still known, with their logs.
        around: Events, nodes and patience.
        now: Seconds since the epoch.
    """
    ended = [*known, *deaths.find(found, around.events)]
    # A rank that still runs may have said long ago what the others died of.
    only_followed = bool(ended) and all(one.class_name in CONSEQUENCES for one in deaths.latest_generation(ended))
    dead = deaths.latest_generation([*ended, *deaths.hanging(found, around.events, now, at_once=only_followed)])
    stuck = [one.cause for one in obstacles.find([life for life in found if not life.gone], around) if one.counts(now)]
    first = first_cause.first([*(death.cause for death in dead), *stuck])
    if not dead or first is None:
        return Diagnosis(first)
    if _flags_matter(first):
        texts = {life.name: life.text for life in found if life.uid in {death.uid for death in dead} and life.text}
        disagreeing = first_cause.disagreeing(texts) if len(texts) > 1 else None
        if disagreeing is not None:
            return Diagnosis(replace(disagreeing, at=disagreeing.at or first.at))
    fresh = first.class_name in CONSEQUENCES and 0 <= now - dead[-1].ended < _settle_seconds(first, dead[-1], found)
    return Diagnosis(None, settled=False) if fresh else Diagnosis(first)


def _settle_seconds(first: Cause, last: Death, found: Sequence[Life]) -> float:
    others = [life for life in found if lives.group(life.pod) == last.group and life.name != last.pod]
    peer_runs = any(not life.end and not life.gone for life in others)
    return _PEER_SECONDS if first.class_name == "PEER_LOST" and peer_runs else _SETTLE_SECONDS


def _flags_matter(first: Cause) -> bool:
    """Where flags differ, the ranks speak of each other; a cause of their own stays theirs."""
    return first.class_name in CONSEQUENCES or first.class_name in ("ENGINE_BUG", "NCCL", "PARALLEL_CFG")
