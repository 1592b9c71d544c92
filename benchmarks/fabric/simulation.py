"""Fabrics with faults, and what perftest would measure on them.

bandwidth of client to server = min(sender, link, receiver, rail, fabric) x noise, in parts of the port rate. A cell
below 0.95 is tried again, three attempts in all, as the probe does.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from llm_rollout.fabric.matrix import Attempt, Cell, Matrix, Thresholds
from llm_rollout.fabric.parts import Grid, Part

RATE_GBPS = 400.0
RAILS = 8
HEALTHY_MEAN, HEALTHY_SPREAD, MOST = 0.97, 0.01, 0.985
"""ib_write_bw gives 0.95 to 0.98 of 400 Gb/s; nothing gives more than the protocol leaves."""
FLAKE = 0.01
"""Part of the attempts that fail although nothing is wrong."""
ATTEMPTS = 3
_SLOW = 0.92
_LIMITS = Thresholds()
_FAILED = Attempt(None, "timeout")


@dataclass(frozen=True)
class Fabric:
    """``faults`` are parts and the part of the rate that they leave."""

    nodes: int
    faults: tuple[tuple[Part, float], ...]
    flake: float = FLAKE

    @property
    def grid(self) -> Grid:
        """Its places."""
        return Grid(self.nodes, RAILS)

    def capacities(self) -> dict[int, float]:
        """By cell."""
        found = dict.fromkeys(_cells(self.grid), 1.0)
        parts = self.grid.parts() if self.nodes > 2 else _parts_of_two(self.grid)  # noqa: PLR2004
        for part, capacity in self.faults:
            for number in _cells_of(parts[part]):
                found[number] = min(found[number], capacity)
        return found


@dataclass
class Bench:
    """Takes attempts."""

    fabric: Fabric
    random: random.Random
    capacities: dict[int, float] = field(init=False)

    def __post_init__(self) -> None:
        self.capacities = self.fabric.capacities()

    def fraction(self, number: int) -> float:
        """One attempt, 0 when it failed."""
        capacity = self.capacities[number]
        if not capacity or self.random.random() < self.fabric.flake:
            return 0.0
        if capacity == 1.0:
            return min(self.random.gauss(HEALTHY_MEAN, HEALTHY_SPREAD), MOST)
        return capacity * (1 + self.random.gauss(0, HEALTHY_SPREAD))

    def attempts(self, number: int) -> tuple[Attempt, ...]:
        """Until one is good, three at most."""
        found: list[Attempt] = []
        best = 0.0
        while len(found) < ATTEMPTS and best < _LIMITS.warn_fraction:
            fraction = self.fraction(number)
            found.append(Attempt(fraction * RATE_GBPS) if fraction else _FAILED)
            best = max(best, fraction)
        return tuple(found)

    def matrix(self) -> Matrix:
        """All cells."""
        names = tuple(f"node-{index}" for index in range(self.fabric.nodes))
        grid = self.fabric.grid
        cells = []
        for number in self.capacities:
            client, server, rail = grid.ends(number)
            cells.append(Cell(names[client], names[server], rail, self.attempts(number)))
        return Matrix(names, tuple(range(RAILS)), RATE_GBPS, "roce", _LIMITS, cells)


@lru_cache(maxsize=32)
def _cells(grid: Grid) -> tuple[int, ...]:
    ways = [(client, server) for client in range(grid.nodes) for server in range(grid.nodes) if client != server]
    return tuple(grid.cell(*way, rail) for way in ways for rail in range(grid.rails))


@lru_cache(maxsize=4096)
def _cells_of(mask: int) -> tuple[int, ...]:
    return tuple(number for number in range(mask.bit_length()) if mask >> number & 1)


@lru_cache(maxsize=1)
def _parts_of_two(grid: Grid) -> dict[Part, int]:
    """What exists between two nodes, though nobody can tell it apart by measuring."""
    found = dict(grid.parts())
    everything = found[Part("global")]
    for node in (0, 1):
        found[Part("node", node)] = everything
        for rail in range(grid.rails):
            found[Part("nic", node, None, rail)] = found[Part("link", 0, 1, rail)]
            found[Part("nic", node, None, rail, "sends")] = found[Part("direction", node, 1 - node, rail)]
    for rail in range(grid.rails):
        found[Part("rail", None, None, rail)] = found[Part("link", 0, 1, rail)]
    return found


def _bad(chance: random.Random) -> float:
    """Nothing, half the speed, or anything clearly below 0.90."""
    return chance.choice([0.0, 0.5, chance.uniform(0.1, 0.88), chance.uniform(0.1, 0.88)])


def _nic(nodes: int, chance: random.Random) -> Part:
    return Part("nic", chance.randrange(nodes), None, chance.randrange(RAILS))


def _sender(nodes: int, chance: random.Random) -> Part:
    return _nic(nodes, chance)._replace(way="sends")


def _node(nodes: int, chance: random.Random) -> Part:
    return Part("node", chance.randrange(nodes))


def _direction(nodes: int, chance: random.Random) -> Part:
    sender, receiver = chance.sample(range(nodes), 2)
    return Part("direction", sender, receiver, chance.randrange(RAILS))


def _link(nodes: int, chance: random.Random) -> Part:
    one, other = sorted(chance.sample(range(nodes), 2))
    return Part("link", one, other, chance.randrange(RAILS))


def _rail(_: int, chance: random.Random) -> Part:
    return Part("rail", None, None, chance.randrange(RAILS))


def _global(_: int, __: random.Random) -> Part:
    return Part("global")


Draw = Callable[[int, random.Random], Part]
_CLASSES: dict[str, tuple[Sequence[Draw], float | None]] = {
    "bad NIC": ([_nic], None),
    "NIC that only sends badly": ([_sender], None),
    "node": ([_node], None),
    "link": ([_link], None),
    "one-way link": ([_direction], None),
    "rail switch": ([_rail], None),
    "global setting": ([_global], None),
    "NIC at 92 %": ([_nic], _SLOW),
    "one-way link at 92 %": ([_direction], _SLOW),
    "uniformly slow, 92 %": ([_global], _SLOW),
    "two bad nodes": ([_node, _node], None),
    "two bad NICs": ([_nic, _nic], None),
    "bad NIC and bad link": ([_nic, _link], None),
    "flaky cells, 1 %": ([], None),
    "healthy, noisy": ([], None),
}
CLASSES = tuple(_CLASSES)
SINGLE = CLASSES[:10]
WITHOUT_FAULT = CLASSES[-2:]


def draw(name: str, nodes: int, chance: random.Random) -> Fabric:
    """One fabric of a class; its faults are different parts that do not contain each other."""
    draws, capacity = _CLASSES[name]
    faults: list[Part] = []
    while len(faults) < len(draws):
        part = draws[len(faults)](nodes, chance)
        if not any(_touch(part, other) for other in faults):
            faults.append(part)
    flake = 0.0 if name == "healthy, noisy" else FLAKE
    return Fabric(nodes, tuple((part, _bad(chance) if capacity is None else capacity) for part in faults), flake)


def _touch(part: Part, other: Part) -> bool:
    """A link at a bad NIC is not a fault of its own, nor is the same part twice."""
    if part.kind == "link" and other.kind == "nic":
        return part.rail == other.rail and other.node in {part.node, part.peer}
    return part.name == other.name


def tellable(fabric: Fabric) -> frozenset[tuple[object, ...]]:
    """What the best observer could name.

    Between two nodes a NIC, a rail and a link are one path, a node is everything. Two bad nodes of three leave no good
    cell, which is what a global fault does; so do two bad NICs, or a NIC and a link, on one rail of three nodes.
    """
    return frozenset(_tellable(fabric))


def _tellable(fabric: Fabric) -> Iterator[tuple[object, ...]]:
    faults = [part for part, _ in fabric.faults]
    if fabric.nodes == 2:  # noqa: PLR2004
        for part in faults:
            yield _between_two(part)
    elif fabric.nodes == 3 and len(faults) == 2 and faults[0].rail == faults[1].rail:  # noqa: PLR2004
        yield Part("global" if faults[0].rail is None else "rail", None, None, faults[0].rail).name
    else:
        for part in faults:
            yield part.name


def _between_two(part: Part) -> tuple[object, ...]:
    if part.kind in {"node", "global"}:
        return Part("global").name
    if part.way == "sends" and part.node is not None:
        return Part("direction", part.node, 1 - part.node, part.rail).name
    return part.name if part.kind == "direction" else Part("link", 0, 1, part.rail).name
