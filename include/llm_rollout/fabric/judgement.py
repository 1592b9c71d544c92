"""From a matrix to the verdict and the parts to blame. Pure, and never a guess.

The model: bandwidth of client to server = min(what the client sends, what the link carries, what the server
receives), on every rail. So one good cell clears every part that it runs through, and a bad part spoils all its
cells; the parts named are those that every smallest explanation of the bad cells has in common. What is not
identifiable stays open: with three nodes two bad ones look like a fault of the whole rail, with two nodes a link
cannot be told from its ends.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from llm_rollout.fabric.explanation import Open, explain
from llm_rollout.fabric.grades import Graded, Grades
from llm_rollout.fabric.matrix import RDMA_TRANSPORTS, Cell, Matrix
from llm_rollout.fabric.parts import Part

Verdict = Literal["PASS", "DEGRADED", "FAIL", "INCONCLUSIVE"]
_LEAST_BAD_SHARE, _MOST_NEAR_SHARE = 0.75, 0.08
"""Of the cells of a part that is named: so many are bad, and beside one cell no more are just above the limit."""
_LEAST_SUSPECT_SHARE, _MOST_UNLIKE_SHARE = 0.5, 0.1
"""With fewer bad cells, or more that are not like them (beside one), a part is not even suspected. In between it is not
named, but keeps what lies inside it from being named."""
_TWO = 2
"""Cells of a link: one that is not like the other speaks for it."""
_MOST_GOOD_SHARE = 0.02
"""What may be good in a bad part of many cells."""
_MOST_SINGLE_SHARE, _FEW_SINGLES = 0.05, 8
"""More single directions and links than this below the warning limit are no faults but noise, or something else."""


@dataclass(frozen=True)
class Fault:
    """A part that is bad, with the cells that say so, the worst first."""

    part: Part
    verdict: Literal["FAIL", "DEGRADED"]
    evidence: tuple[Cell, ...]


@dataclass(frozen=True)
class Undecided:
    """Bad cells that more than one part explains."""

    cells: tuple[Cell, ...]
    candidates: tuple[Part, ...]


@dataclass(frozen=True)
class Judgement:
    """The verdict, what it blames, and what it leaves open."""

    verdict: Verdict
    faults: tuple[Fault, ...]
    undecided: tuple[Undecided, ...]


def judge(matrix: Matrix) -> Judgement:
    """FAIL and DEGRADED need a part to blame; PASS every cell measured over RDMA and good; else INCONCLUSIVE."""
    found = weigh(matrix)
    if found.verdict == "PASS" and matrix.transport not in RDMA_TRANSPORTS:
        return replace(found, verdict="INCONCLUSIVE")
    return found


def weigh(matrix: Matrix) -> Judgement:
    """As :func:`judge`, of the numbers alone, whatever carried them: who asks says what a PASS is a PASS of."""
    looks = _Looks(matrix)
    looks.look(Graded.apart, least_cells=1)
    looks.look(Graded.clearly_below, least_cells=1)
    looks.look(Graded.below, least_cells=2)
    faults = looks.widest()
    return Judgement(_verdict(matrix, faults, looks), faults, looks.undecided())


def _verdict(matrix: Matrix, faults: Sequence[Fault], looks: _Looks) -> Verdict:
    if any(fault.verdict == "FAIL" for fault in faults):
        return "FAIL"
    if looks.unexplained & looks.graded.below_fail:
        return "INCONCLUSIVE"
    if faults:
        return "DEGRADED"
    return "INCONCLUSIVE" if looks.unexplained or matrix.unmeasured else "PASS"


class _Looks:
    """Several looks at one matrix; what one explains needs no other explanation in the next."""

    def __init__(self, matrix: Matrix) -> None:
        self._matrix = matrix
        self._parts = matrix.grid.parts()
        self.graded = Graded(matrix)
        self._measured = sum(1 << number for number in self.graded.fractions)
        self._open: tuple[Open, ...] = ()
        self.faults: list[Fault] = []
        self.unexplained = self.graded.below_warn

    def look(self, grade: Callable[[Graded], Grades], *, least_cells: int) -> None:
        """Name what is certain at these grades."""
        if not self.unexplained:
            return
        suspects, weak = self._suspects(grade(self.graded))
        found = explain(suspects)
        named = [(part, cells) for part, cells in found.named if part not in weak and cells.bit_count() >= least_cells]
        named = self._without_noise(named)
        doubtful = [Open(cells, (part,)) for part, cells in found.named if (part, cells) not in named]
        self._open = (*found.open, *doubtful)
        for part, cells in named:
            fault = self._fault(part, cells)
            self.faults.append(fault)
            self.unexplained &= ~self._parts[part] | (self.graded.far_below if fault.verdict == "DEGRADED" else 0)

    def widest(self) -> tuple[Fault, ...]:
        """The faults, without the slow ones inside a part that was named, or suspected, later."""
        suspected = [candidate for one in self._open for candidate in one.candidates]
        kept = []
        for number, fault in enumerate(self.faults):
            later = [self._parts[part] for part in (*suspected, *(one.part for one in self.faults[number + 1 :]))]
            cells = self._parts[fault.part]
            if fault.verdict == "FAIL" or not any(cells & ~other == 0 and cells != other for other in later):
                kept.append(fault)
        return tuple(kept)

    def undecided(self) -> tuple[Undecided, ...]:
        """What the last look left open, without what others explain."""
        left = [one for one in self._open if one.cells & self.unexplained]
        return tuple(Undecided(self._cells(one.cells & self.unexplained), one.candidates) for one in left)

    def _suspects(self, grades: Grades) -> tuple[dict[Part, int], set[Part]]:
        """The parts that may be bad, since no cell clears them, each with its bad cells; and which are hardly so."""
        bad = grades.bad & self.unexplained
        below = bad | (self.graded.below_warn & ~self.unexplained)
        good = self._measured & ~(below | grades.bad | grades.near | grades.unclear)
        suspects, weak = {}, set()
        for part, cells in self._parts.items():
            if spoiled := cells & bad:
                suspicion = self._suspicion(cells & below, cells & grades.near, cells & good)
                if suspicion != "none":
                    suspects[part] = spoiled
                if suspicion == "weak":
                    weak.add(part)
        return suspects, weak

    def _suspicion(self, below: int, near: int, good: int) -> Literal["none", "weak", "strong"]:
        """How likely it is that one part has all these cells."""
        bad, count = below.bit_count(), (below | near | good).bit_count()
        unlike = self.graded.unlike(near, below).bit_count() if near else 0
        if (
            good.bit_count() > _MOST_GOOD_SHARE * count
            or unlike > max(_MOST_UNLIKE_SHARE * count, int(count > _TWO))
            or bad < _LEAST_SUSPECT_SHARE * count
        ):
            return "none"
        is_whole = bad >= _LEAST_BAD_SHARE * count and near.bit_count() <= 1 + _MOST_NEAR_SHARE * count
        return "strong" if is_whole and good.bit_count() + unlike <= _MOST_GOOD_SHARE * count else "weak"

    def _without_noise(self, named: list[tuple[Part, int]]) -> list[tuple[Part, int]]:
        single = {"direction", "link"}
        slow = [one for one in named if one[0].kind in single and not one[1] & self.graded.below_fail]
        are_many = len(slow) > max(_FEW_SINGLES, _MOST_SINGLE_SHARE * self._measured.bit_count())
        return [one for one in named if one not in slow] if are_many else named

    def _fault(self, part: Part, cells: int) -> Fault:
        """Noise may carry single cells of a part over a limit: the middle of them decides."""
        evidence = self._cells(cells)
        limit = self._matrix.thresholds.fail_fraction * self._matrix.port_rate_gbps
        middle = statistics.median_low(_gbps(cell) for cell in evidence)
        if middle < limit:
            return Fault(part, "FAIL", tuple(cell for cell in evidence if _gbps(cell) < limit))
        return Fault(part, "DEGRADED", tuple(cell for cell in evidence if _gbps(cell) >= limit))

    def _cells(self, cells: int) -> tuple[Cell, ...]:
        found = [cell for number, cell in self._matrix.placed.items() if cells >> number & 1]
        return tuple(sorted(found, key=_gbps))


def _gbps(cell: Cell) -> float:
    return (cell.counted.gbps or 0.0) if cell.counted is not None else 0.0
