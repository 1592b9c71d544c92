"""Who measures with whom when: the circle method, as round-robin tournaments use it."""

from __future__ import annotations

Pair = tuple[int, int]


def rounds(count: int) -> list[list[Pair]]:
    """Every pair of ``0..count-1`` exactly once, in rounds of disjoint pairs.

    ``count - 1`` rounds when even; ``count`` rounds when odd, each member sitting one of them out.
    """
    if count < 2:  # noqa: PLR2004 - a pair needs two
        return []
    seats: list[int | None] = [*range(count)] + ([None] if count % 2 else [])
    planned = []
    for _ in range(len(seats) - 1):
        planned.append(_facing(seats))
        seats = [seats[0], seats[-1], *seats[1:-1]]
    return planned


def _facing(seats: list[int | None]) -> list[Pair]:
    """Pair the first seat with the last, the second with the last but one; the empty seat is a bye."""
    half = len(seats) // 2
    opposite = zip(seats[:half], reversed(seats[half:]), strict=True)
    return [(min(one, other), max(one, other)) for one, other in opposite if one is not None and other is not None]
