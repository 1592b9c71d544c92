"""Which cells are bad, and which differ from the healthy ones by no more than those differ among themselves. Pure.

Healthy ports give 0.95 to 0.98 of their rate, with a spread of about 0.01 between attempts (ib_write_bw on 400 Gb/s
ports). A cell a little below a limit may therefore be healthy, and one a little above it bad.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from llm_rollout.fabric.matrix import Cell, Matrix
from llm_rollout.fabric.parts import numbers_of

RELATIVE_LIMIT = 0.9
"""Of the median of the same rail: what a port rate that is stated too low would hide."""
_MOST_SPREAD, _LEAST_SPREAD, _LEAST_SPREAD_OF_FEW = 0.015, 0.001, 0.005
_FEW, _MANY, _WIDER = 8, 50, 1.15
"""With fewer than many cells their spread may look too small; of a few it is not known at all."""
FAINT_SPREADS = 3.0
"""A mean of attempts nearer than this to the healthy cells may be one of them."""
_NEAR_SPREADS = 2.5
"""A good cell whose attempts are further from the healthy ones on the average was lucky, perhaps."""
_BAND_SPREADS = 2.0
_ALIKE_SPREADS, _ALIKE_SPREADS_OF_TWO = 3.5, 2.0
"""Cells of one part are not further above its middle than this; of two cells one is the middle."""
_GAP, _GAP_ENDS_BELOW, _FAR_BELOW = 0.04, 0.03, 0.05
"""Of the port rate: noise leaves no such gap inside one part; where it ends, and what is far, below the limit."""
_FEW_ON_RAIL, _TWO = 6, 2


@dataclass(frozen=True)
class Grades:
    """Sets of cells, as in :mod:`llm_rollout.fabric.parts`.

    ``bad`` is what must be explained. ``near`` is just above the limit: a bad part may have such cells if they are like
    its others. What is neither, nor ``unclear``, clears the parts that it runs through.
    """

    bad: int
    near: int = 0
    unclear: int = 0


class Graded:
    """The fractions of the port rate, and what three looks at them say, the clearest first."""

    def __init__(self, matrix: Matrix) -> None:
        self._limits, self._rate = matrix.thresholds, matrix.port_rate_gbps
        self._cells: Mapping[int, Cell] = matrix.placed
        self.fractions = {
            number: (cell.counted.gbps or 0.0) / self._rate
            for number, cell in self._cells.items()
            if cell.counted is not None
        }
        self._relative = self._below_peers(matrix.grid.rails)
        warn = self._limits.warn_fraction
        self.below_warn = self._where(lambda number, part: part < warn or number in self._relative)
        self.below_fail = self._where(lambda _, part: part < self._limits.fail_fraction)
        self.far_below = self._where(lambda _, part: part < self._limits.fail_fraction - _FAR_BELOW)
        good = [part for number, part in self.fractions.items() if part >= warn and number not in self._relative]
        self._healthy = sum(good) / len(good) if good else None
        self._spread = self._spread_of(good)

    def apart(self) -> Grades:
        """What a wide gap sets apart from all that is near the fail limit or above. Without a gap, nothing."""
        fail = self._limits.fail_fraction
        values = sorted(self.fractions.values())
        for below, above in pairwise(values):
            if below < fail and above >= fail - _GAP_ENDS_BELOW and above - below >= _GAP:
                return Grades(self._where(lambda _, part: part < above))  # noqa: B023 - used at once
        return Grades(0)

    def clearly_below(self) -> Grades:
        """Below a limit by more than noise."""
        faint = self._faint()
        again = self._where(lambda number, _: self._was_near(number))
        return Grades(self.below_warn & ~faint, self._near() & ~again, faint | again)

    def below(self) -> Grades:
        """Below a limit by whatever little."""
        return Grades(self.below_warn, self._near())

    def unlike(self, cells: int, bad: int) -> int:
        """Those of ``cells`` that carry more than a part with these bad cells could."""
        spreads = _ALIKE_SPREADS if (cells | bad).bit_count() > _TWO else _ALIKE_SPREADS_OF_TWO
        limit = statistics.median(map(self._mean, numbers_of(bad))) + spreads * self._spread
        return sum(1 << number for number in numbers_of(cells) if self._mean(number) > limit)

    def _near(self) -> int:
        warn = self._limits.warn_fraction
        high = warn + _BAND_SPREADS * self._spread
        return self._where(lambda _, part: warn <= part < high) & ~self.below_warn

    def _faint(self) -> int:
        """Between the limits with attempts not far from the healthy cells; these must be more, or they are no measure.

        Where attempts failed there are fewer numbers, so their mean must be further away to mean anything.
        """
        faint = self._where(lambda number, _: self._is_faint(number))
        healthy = len(self.fractions) - self.below_warn.bit_count()
        return faint if faint.bit_count() <= healthy else 0

    def _is_faint(self, number: int) -> bool:
        part, limits, cell = self.fractions[number], self._limits, self._cells[number]
        if not limits.fail_fraction <= part < limits.warn_fraction:
            return False
        return self._distance(number) < FAINT_SPREADS * math.sqrt(len(cell.attempts) / len(cell.numbers))

    def _was_near(self, number: int) -> bool:
        """Good at last and only just, after attempts that were not."""
        warn, part = self._limits.warn_fraction, self.fractions[number]
        just = warn <= part < warn + _BAND_SPREADS * self._spread
        return just and len(self._cells[number].attempts) > 1 and self._distance(number) > _NEAR_SPREADS

    def _distance(self, number: int) -> float:
        """From the healthy cells down to the mean of the attempts, in spreads; no healthy cell is very far."""
        if self._healthy is None:
            return math.inf
        return (self._healthy - self._mean(number)) / self._spread

    def _mean(self, number: int) -> float:
        """Of the attempts, in parts of the rate; what never gave a number gave nothing."""
        numbers = self._cells[number].numbers
        return sum(numbers) / len(numbers) / self._rate if numbers else 0.0

    def _below_peers(self, rails: int) -> set[int]:
        by_rail: dict[int, list[int]] = defaultdict(list)
        for number in self.fractions:
            by_rail[number % rails].append(number)
        found: set[int] = set()
        for numbers in by_rail.values():
            if len(numbers) >= _FEW_ON_RAIL:
                limit = RELATIVE_LIMIT * statistics.median(self.fractions[number] for number in numbers)
                found |= {number for number in numbers if self.fractions[number] < limit}
        return found

    def _spread_of(self, good: list[float]) -> float:
        """The standard deviation of healthy cells, or of the attempts of one bad cell, whichever is larger.

        A good cell was tried again because its first attempt was low: its attempts differ more than others.
        """
        between = _deviation(good) if len(good) > 1 else 0.0
        again = [cell.numbers for number, cell in self._cells.items() if self.below_warn >> number & 1]
        tried = [numbers for numbers in again if len(numbers) > 1]
        within = statistics.median(map(_deviation, tried)) / self._rate if len(tried) >= _FEW else 0.0
        least = _LEAST_SPREAD if len(good) >= _FEW else _LEAST_SPREAD_OF_FEW
        wider = 1.0 if len(good) >= _MANY else _WIDER
        return min(max(wider * max(between, within), least), _MOST_SPREAD)

    def _where(self, holds: Callable[[int, float], bool]) -> int:
        return sum(1 << number for number, part in self.fractions.items() if holds(number, part))


def _deviation(values: Sequence[float]) -> float:
    """The sample's standard deviation; the one of the standard library is exact and thirty times as slow."""
    mean = sum(values) / len(values)
    return math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1))
