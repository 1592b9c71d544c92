"""Name what is bad: a node, a link or a setting. Pure, and never a guess.

With three nodes one bad node can be told from a bad link, but two bad nodes look like a fault of the whole
fabric; with two nodes a link cannot be told from its ends. The details say so.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from llm_rollout.fabric.rows import Row, Status

Pair = tuple[str, str]
_ENOUGH_PAIRS = 3
"""From three nodes on, "all pairs" is evidence for something that all share."""


@dataclass(frozen=True)
class Blame:
    """``name`` is a node, ``a <-> b`` or the devices of a setting; ``detail`` has devices and numbers."""

    kind: Literal["link", "node", "setting"]
    name: str
    detail: str


@dataclass(frozen=True)
class _Suspect:
    kind: Literal["link", "node", "setting"]
    name: str
    rows: tuple[Row, ...]
    note: str


def attribute(rows: Sequence[Row], status: Status = "bad") -> list[Blame]:
    """Who is to blame for the rows of ``status``; empty when there are none. Rows not measured count for nothing."""
    by_hca: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row.status != "could_not_run":
            by_hca[row.hca].append(row)
    merged: dict[tuple[str, str], list[_Suspect]] = defaultdict(list)
    for hca, measured in by_hca.items():
        for suspect in _suspects(hca, measured, status):
            merged[suspect.kind, suspect.name if suspect.kind != "setting" else ""].append(suspect)
    return [_blame(suspects, len(by_hca)) for suspects in merged.values()]


def _suspects(hca: str, rows: Sequence[Row], status: Status) -> list[_Suspect]:
    """The decision for one device."""
    bad = [row for row in rows if row.status == status]
    pairs, bad_pairs = {row.pair for row in rows}, {row.pair for row in bad}
    if len(bad_pairs) == len(pairs) >= _ENOUGH_PAIRS:
        note = f"all {len(pairs)} pairs; with three nodes, two bad ones look the same"
        return [
            _Suspect("setting", hca, tuple(bad), note if len(pairs) == _ENOUGH_PAIRS else f"all {len(pairs)} pairs")
        ]
    nodes, links = _nodes_and_links(bad_pairs)
    found = [_node(name, rows, bad) for name in nodes]
    return found + [_link(pair, pairs, bad) for pair in links]


def _nodes_and_links(bad_pairs: Collection[Pair]) -> tuple[list[str], list[Pair]]:
    """Nodes bad with two partners or more explain their pairs; what is left over are links.

    Nodes with equally many bad partners are named together: choosing one of them would be a guess.
    """
    left: set[Pair] = set(bad_pairs)
    nodes: list[str] = []
    while True:
        partners = Counter(node for pair in left for node in pair)
        most = max(partners.values(), default=0)
        if most < 2:  # noqa: PLR2004 - one bad partner is a link
            return sorted(nodes), sorted(left)
        worst = {node for node, count in partners.items() if count == most}
        nodes += worst
        left = {pair for pair in left if not worst & set(pair)}


def _node(name: str, rows: Iterable[Row], bad: Iterable[Row]) -> _Suspect:
    own = tuple(row for row in bad if name in row.pair)
    partners = {row.pair for row in rows if name in row.pair}
    note = f"with {len({row.pair for row in own})} of {len(partners)} partners"
    return _Suspect("node", name, own, note)


def _link(pair: Pair, pairs: Collection[Pair], bad: Iterable[Row]) -> _Suspect:
    own = tuple(row for row in bad if row.pair == pair)
    notes = []
    if len({(row.server, row.client) for row in own}) == 1:
        notes.append(f"only {own[0].client} -> {own[0].server}: its transmit or the other's receive side")
    if len(pairs) == 1:
        notes.append("the only pair measured: either end may be the cause")
    return _Suspect("link", " <-> ".join(pair), own, "; ".join(notes))


def _blame(suspects: Sequence[_Suspect], devices: int) -> Blame:
    """One line for what several devices say about the same thing; the worst row gives the numbers."""
    worst = min((row for suspect in suspects for row in suspect.rows), key=lambda row: row.gbps or 0.0)
    hcas = [suspect.rows[0].hca for suspect in suspects]
    shown = f"all {devices} devices" if len(hcas) == devices > 1 else ", ".join(hcas)
    note = f" ({suspects[0].note})" if suspects[0].note else ""
    if suspects[0].kind != "setting":
        return Blame(suspects[0].kind, suspects[0].name, f"{shown}: {worst.detail}{note}")
    where = (
        "the class of traffic, GIDs, MTU or image" if len(hcas) == devices > 1 else "switch, VLAN or QoS of this rail"
    )
    return Blame("setting", shown, f"{worst.detail}{note}: look at {where}")
