"""What was measured between all nodes of a fabric: every direction on every rail, every attempt. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from llm_rollout.fabric.parts import Grid

RDMA_TRANSPORTS = frozenset({"ib", "roce"})
"""Only these can PASS: anything else measured well says nothing about RDMA."""
BAD_CLASSES = ("timeout", "access", "gid", "port", "memlock", "no-device", "gdr-missing", "flush")
"""The RDMA path itself failed. A cause beats its effect: ``flush`` counts only when nothing else is there."""
OTHER_CLASSES = ("oob", "image", "ifname", "truncated", "other", "wrong-data", "socket-fallback", "no-gdr")
_NOT_RDMA = "socket-fallback"
"""A number measured over sockets is no number about RDMA."""


@dataclass(frozen=True)
class Attempt:
    """One run of the tool: Gbit/s, or None and the class of its error."""

    gbps: float | None
    error_class: str | None = None


@dataclass(frozen=True)
class Cell:
    """Data flows from ``client`` to ``server``."""

    client: str
    server: str
    rail: int
    attempts: tuple[Attempt, ...]

    @property
    def counted(self) -> Attempt | None:
        """The best number; 0 where the path failed in every attempt; None when nothing was measured."""
        best: Attempt | None = None
        for one in self.attempts:
            better = best is None or (one.gbps or 0.0) > (best.gbps or 0.0)
            if better and one.gbps is not None and one.error_class != _NOT_RDMA:
                best = one
        return best or self._failed()

    @property
    def numbers(self) -> list[float]:
        """Gbit/s of all attempts that gave a number."""
        return [one.gbps for one in self.attempts if one.gbps is not None and one.error_class != _NOT_RDMA]

    def _failed(self) -> Attempt | None:
        failed = [one.error_class for one in self.attempts if one.error_class in BAD_CLASSES]
        cause = next((one for one in failed if one != "flush"), "flush")
        return Attempt(0.0, cause) if failed else None


@dataclass(frozen=True)
class Thresholds:
    """Parts of the port rate: below ``fail_fraction`` FAIL, below ``warn_fraction`` DEGRADED."""

    fail_fraction: float = 0.90
    warn_fraction: float = 0.95


@dataclass(frozen=True)
class Matrix:
    """Cells in any order, each at most once. ``port_rate_gbps`` is per direction."""

    nodes: tuple[str, ...]
    rails: tuple[int, ...]
    port_rate_gbps: float
    transport: str | None
    thresholds: Thresholds
    cells: Sequence[Cell]

    @property
    def grid(self) -> Grid:
        """The places of the cells."""
        return Grid(len(self.nodes), len(self.rails))

    @cached_property
    def placed(self) -> dict[int, Cell]:
        """The measured cells by their number in the grid."""
        node = {name: index for index, name in enumerate(self.nodes)}
        rail = {number: index for index, number in enumerate(self.rails)}
        grid = self.grid
        return {
            grid.cell(node[cell.client], node[cell.server], rail[cell.rail]): cell
            for cell in self.cells
            if cell.counted is not None
        }

    @property
    def unmeasured(self) -> int:
        """How many cells say nothing."""
        return len(self.nodes) * (len(self.nodes) - 1) * len(self.rails) - len(self.placed)
