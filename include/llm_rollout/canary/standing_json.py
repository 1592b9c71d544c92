"""A standing as JSON, for whoever stores it between two rounds. The version changes with the meaning of the pots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from llm_rollout.canary.bets import Staggered
from llm_rollout.canary.judge import Decision, Standing
from llm_rollout.canary.rounds import Answer, Counts, Pair
from llm_rollout.canary.timings import Slower, Timings

VERSION = 3


def as_json(standing: Standing) -> dict[str, Any]:
    """Plain values; ``from_json`` reads them back."""
    return {
        "version": VERSION,
        "rounds": standing.rounds,
        "totals": standing.totals.as_json(),
        "timings": standing.timings,
        "pots": standing.pots,
        "waiting": standing.waiting,
        "decision": asdict(standing.decision),
        "stable_was_well": standing.stable_was_well,
    }


def from_json(value: Mapping[str, Any]) -> Standing:
    """The standing that ``as_json`` wrote; a ValueError where another version did."""
    if value["version"] != VERSION:
        raise ValueError(f"version: {value['version']!r} is not {VERSION}: begin the comparison anew")
    return Standing(
        value["rounds"],
        Counts(**value["totals"]),
        _timings(value["timings"]),
        {metric: {kind: _pot(kind, pot) for kind, pot in pots.items()} for metric, pots in value["pots"].items()},
        tuple(Pair(Answer(*stable), Answer(*candidate)) for stable, candidate in value["waiting"]),
        Decision(**value["decision"]),
        value["stable_was_well"],
    )


def _timings(value: Sequence[Any]) -> Timings:
    ttft, itl, throughput, *counts = value
    return Timings(Slower(*ttft), Slower(*itl), Slower(*throughput), *counts)


def _pot(kind: str, value: Sequence[Any]) -> Any:
    if kind == "latest":
        return tuple(tuple(one) for one in value)
    if value and isinstance(value[0], list | tuple):
        paces, scores, *sums = value
        return Staggered(tuple(tuple(tuple(pot) for pot in pace) for pace in paces), tuple(scores), *sums)
    return tuple(value)
