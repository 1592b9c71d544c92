"""The parts of a fabric that can be bad, each as the set of cells that it would spoil.

A set is an int with one bit for each cell, so that thousands of them are compared in a millisecond.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

Kind = Literal["node", "nic", "link", "direction", "rail", "global"]
Way = Literal["both", "sends", "receives"]
_PAIR = 2


class Part(NamedTuple):
    """Indexes into the nodes and rails of a grid. ``way`` is what a node or NIC does badly."""

    kind: Kind
    node: int | None = None
    peer: int | None = None
    rail: int | None = None
    way: Way = "both"

    @property
    def name(self) -> tuple[Kind, int | None, int | None, int | None]:
        """What is blamed: a NIC that only sends badly is that NIC."""
        return self.kind, self.node, self.peer, self.rail

    def narrows(self, other: Part) -> bool:
        """Whether this is one rail's share of ``other``: then it is bad whenever ``other`` is."""
        wider = {"nic": "node", "rail": "global", "link": "link"}
        of_all_rails = other.rail is None and wider.get(self.kind) == other.kind
        return of_all_rails and self.rail is not None and (self.node, self.peer) == (other.node, other.peer)


@dataclass(frozen=True)
class Grid:
    """How many nodes and rails; cells are numbered by client, server and rail."""

    nodes: int
    rails: int

    def cell(self, client: int, server: int, rail: int) -> int:
        """The number of a cell."""
        return (client * self.nodes + server) * self.rails + rail

    def ends(self, cell: int) -> tuple[int, int, int]:
        """Client, server and rail of a cell."""
        way, rail = divmod(cell, self.rails)
        client, server = divmod(way, self.nodes)
        return client, server, rail

    def parts(self) -> dict[Part, int]:
        """Every part and its cells. Where two parts have the same cells only the wider is there."""
        return _parts(self)


def numbers_of(cells: int) -> list[int]:
    """The numbers of a set of cells."""
    found = []
    while cells:
        lowest = cells & -cells
        found.append(lowest.bit_length() - 1)
        cells ^= lowest
    return found


@lru_cache(maxsize=32)
def _parts(grid: Grid) -> dict[Part, int]:
    found: dict[Part, int] = defaultdict(int)
    for client in range(grid.nodes):
        for server in range(grid.nodes):
            for rail in range(grid.rails if client != server else 0):
                for part in _containing(grid, client, server, rail):
                    found[part] |= 1 << grid.cell(client, server, rail)
    return dict(found)


def _containing(grid: Grid, client: int, server: int, rail: int) -> Iterator[Part]:
    """The parts that one cell runs through.

    With one rail a node is its NIC, a rail is the fabric. With two nodes neither end can be told from the path
    between them, so a rail is one link; several rails at once share only what is global.
    """
    ends = min(client, server), max(client, server)
    yield Part("direction", client, server, rail)
    yield Part("link", *ends, rail if grid.rails > 1 else None)
    if grid.nodes == _PAIR:
        yield from [Part("global")] if grid.rails > 1 else []
        return
    rails: list[int | None] = [None, rail] if grid.rails > 1 else [None]
    for one in rails:
        kind: Kind = "node" if one is None else "nic"
        yield from (Part(kind, client, None, one), Part(kind, client, None, one, "sends"))
        yield from (Part(kind, server, None, one), Part(kind, server, None, one, "receives"))
        yield Part("global" if one is None else "rail", None, None, one)
    if grid.rails > 1:
        yield Part("link", *ends)
