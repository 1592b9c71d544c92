"""The smallest set of parts that explains all bad cells, and what every such set has in common. Pure.

What only some of the smallest explanations name is a candidate, not a finding: choosing one would be a guess.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from llm_rollout.fabric.parts import Part

_MOST_PARTS = 12
_MOST_STEPS = 20_000
"""Of the search in one group of connected cells; beyond it nothing is named."""


@dataclass(frozen=True)
class Open:
    """Bad cells for which there are more candidates than evidence."""

    cells: int
    candidates: tuple[Part, ...]


@dataclass(frozen=True)
class Explanation:
    """Parts that every smallest explanation names with the cells that speak against them, and what stays open."""

    named: tuple[tuple[Part, int], ...]
    open: tuple[Open, ...]


def explain(suspects: Mapping[Part, int]) -> Explanation:
    """``suspects`` are the parts that may be bad, each with its bad cells; every bad cell is in one of them."""
    alike: dict[int, list[Part]] = defaultdict(list)
    for part, cells in suspects.items():
        alike[cells].append(part)
    named: list[tuple[Part, int]] = []
    left: list[Open] = []
    for group in _connected(list(alike)):
        certain, possible = _in_all_smallest(group)
        for cells in certain:
            one = _one(alike[cells])
            if one is not None:
                named.append((one, cells))
            else:
                left.append(Open(cells, tuple(alike[cells])))
        explained = _union(certain)
        if _union(group) & ~explained:
            candidates = tuple(part for cells in possible for part in alike[cells])
            left.append(Open(_union(group) & ~explained, candidates))
    return Explanation(tuple(named), tuple(left))


def _one(parts: Sequence[Part]) -> Part | None:
    """The part that parts with the same evidence amount to, None when they contradict each other.

    One rail's share of a wider part is bad under both readings, so it is what can be said.
    """
    for part in parts:
        others = [other for other in parts if other.name != part.name]
        if all(part.narrows(other) for other in others):
            same = [other for other in parts if other.name == part.name]
            return next((one for one in same if one.way == "both"), same[0]) if len(same) > 1 else part
    return None


def _connected(masks: Sequence[int]) -> Iterator[list[int]]:
    """Masks in groups that share no cell with each other: each group is explained by itself."""
    groups: list[tuple[int, list[int]]] = []
    for mask in sorted(masks, key=int.bit_count, reverse=True):
        joined, members, apart = mask, [mask], []
        for union, group in groups:
            if union & mask:
                joined, members = joined | union, group + members
            else:
                apart.append((union, group))
        groups = [*apart, (joined, members)]
    return (group for _, group in groups)


def _in_all_smallest(masks: Sequence[int]) -> tuple[list[int], list[int]]:
    """The masks in every smallest cover, and those in at least one but not in all."""
    everything = _union(masks)
    ordered = sorted(masks, key=int.bit_count, reverse=True)
    for most in range(1, _MOST_PARTS + 1):
        search = _Search(ordered)
        search.run(everything, (), most)
        if search.gave_up:
            break
        if search.common is not None:
            return sorted(search.common), sorted(search.seen - search.common)
    return [], []


class _Search:
    """All covers with a given number of masks."""

    def __init__(self, ordered: Sequence[int]) -> None:
        self._ordered = ordered
        self._steps = 0
        self.common: set[int] | None = None
        self.seen: set[int] = set()

    @property
    def gave_up(self) -> bool:
        return self._steps > _MOST_STEPS

    def run(self, left: int, chosen: tuple[int, ...], most: int) -> None:
        self._steps += 1
        if not left:
            self.seen |= set(chosen)
            self.common = set(chosen) if self.common is None else self.common & set(chosen)
            return
        if most == 0 or self.gave_up or left.bit_count() > most * self._ordered[0].bit_count():
            return
        lowest = left & -left
        for mask in self._ordered:
            if mask & lowest:
                self.run(left & ~mask, (*chosen, mask), most - 1)


def _union(masks: Sequence[int]) -> int:
    union = 0
    for mask in masks:
        union |= mask
    return union
