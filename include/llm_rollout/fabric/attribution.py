"""Name what is bad in the rows of a probe: a node, a NIC, a link, a direction, a rail, or what all share. Pure.

The decision is :mod:`llm_rollout.fabric.judgement`'s; here it is put into words, with devices and numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from llm_rollout.fabric.judgement import Fault, Judgement, Undecided, weigh
from llm_rollout.fabric.matrix import Attempt, Cell, Matrix, Thresholds
from llm_rollout.fabric.parts import Kind, Part
from llm_rollout.fabric.rows import Row, Try

_LIMITS = Thresholds()
_JUST = 1e-9
_MOST_CANDIDATES = 4
_PAIR, _THREE = 2, 3


@dataclass(frozen=True)
class Blame:
    """``name`` is a node (of ``nic`` too), ``a <-> b``, ``a -> b``, or devices; ``detail`` has devices and numbers."""

    kind: Kind | Literal["setting"]
    name: str
    detail: str


def attribute(rows: Sequence[Row]) -> list[Blame]:
    """Who is to blame; empty when nobody is, or when it cannot be told."""
    return Attribution(tuple(rows)).blames()


@dataclass(frozen=True)
class Attribution:
    """What the rows say. The grades in them count, whatever limits they were graded by."""

    rows: tuple[Row, ...]

    @cached_property
    def matrix(self) -> Matrix:
        """The rows as a matrix of fractions of the port rate."""
        nodes = tuple(sorted({node for row in self.rows for node in row.pair}))
        cells = [self._cell(row) for row in self.rows]
        return Matrix(nodes, tuple(range(len(self.hcas))), 1.0, None, _LIMITS, cells)

    @cached_property
    def hcas(self) -> tuple[str, ...]:
        """The rails' devices."""
        return tuple(dict.fromkeys(row.hca for row in self.rows))

    @cached_property
    def judgement(self) -> Judgement:
        """Of the numbers alone, not of what carried them."""
        return weigh(self.matrix)

    def blames(self, verdict: Literal["FAIL", "DEGRADED"] | None = None) -> list[Blame]:
        """All parts that are named, or those of one severity."""
        if not self.rows:
            return []
        return [self._blame(fault) for fault in self.judgement.faults if verdict in {None, fault.verdict}]

    def undecided(self) -> list[str]:
        """One clause for each group of bad rows that more than one part explains."""
        return [self._candidates(one) for one in self.judgement.undecided] if self.rows else []

    def _cell(self, row: Row) -> Cell:
        return Cell(row.client, row.server, self.hcas.index(row.hca), tuple(_attempt(row, one) for one in row.tries))

    def _rows(self, cells: Sequence[Cell]) -> list[Row]:
        """The rows of cells in their order."""
        by_cell = {(row.client, row.server, row.hca): row for row in self.rows}
        return [by_cell[cell.client, cell.server, self.hcas[cell.rail]] for cell in cells]

    def _blame(self, fault: Fault) -> Blame:
        part, rows = fault.part, self._rows(fault.evidence)
        notes = "; ".join(self._notes(part, rows))
        where = "" if part.kind in {"rail", "global"} else f"{self._devices(part)}: "
        return Blame(part.kind, self._name(part), f"{where}{rows[0].detail}{f' ({notes})' if notes else ''}")

    def _name(self, part: Part) -> str:
        if part.node is None:
            return self._devices(part)
        node = self.matrix.nodes[part.node]
        arrow = "->" if part.kind == "direction" else "<->"
        return node if part.peer is None else f"{node} {arrow} {self.matrix.nodes[part.peer]}"

    def _devices(self, part: Part) -> str:
        if part.rail is not None:
            return self.hcas[part.rail]
        return self.hcas[0] if len(self.hcas) == 1 else f"all {len(self.hcas)} devices"

    def _notes(self, part: Part, rows: Sequence[Row]) -> list[str]:
        count = len(self.matrix.nodes)
        if part.kind in {"node", "nic"}:
            only = {"both": [], "sends": ["only sending"], "receives": ["only receiving"]}[part.way]
            partners = len({node for row in rows for node in row.pair}) - 1
            return [f"with {partners} of {count - 1} partners", *only]
        if part.kind == "direction":
            return ["only this way: the transmit side of the first or the receive side of the second"]
        if part.kind == "link":
            return ["the only pair measured: either end may be the cause"] if count == _PAIR else []
        look = "the switch, VLAN or QoS of this rail" if part.kind == "rail" else "traffic class, GIDs, MTU or image"
        pairs = f"all {len({row.pair for row in self.rows})} pairs"
        same = ["with three nodes, two bad ones look the same"] if count == _THREE else []
        return [pairs, *same, f"look at {look}"]

    def _candidates(self, undecided: Undecided) -> str:
        rows = self._rows(undecided.cells)
        parts = list({part.name: part for part in undecided.candidates}.values())
        shown = [f"{part.kind} {self._name(part)}" for part in parts[:_MOST_CANDIDATES]]
        more = ["others"] if len(parts) > _MOST_CANDIDATES else []
        worst = f"{rows[0].client} -> {rows[0].server} {rows[0].hca}: {rows[0].detail}"
        if len(parts) == 1:
            return f"{worst}: too near to the healthy ones to blame {shown[0]}"
        return f"{worst}: it may be {' or '.join(shown + more) or 'many parts'}: more candidates than evidence"


def _attempt(row: Row, seen: Try) -> Attempt:
    """The fraction of the port rate, on the side of the limits where the grade puts it."""
    fraction = (seen.gbps or 0.0) / row.rate_gbps if row.rate_gbps else 0.0
    if seen.status == "could_not_run":
        return Attempt(None, "other")
    if seen.status == "bad":
        return Attempt(min(fraction, _LIMITS.fail_fraction - _JUST))
    if seen.status == "warn":
        return Attempt(min(max(fraction, _LIMITS.fail_fraction), _LIMITS.warn_fraction - _JUST))
    return Attempt(max(fraction, _LIMITS.warn_fraction))
