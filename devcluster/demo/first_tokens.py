"""What users feel of a comparison: how long they wait for a first token during one, and at all other times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from llm_rollout.canary.back_pressure import percentile

Span = tuple[float, float]
"""From when to when, in seconds since the epoch."""


class FirstToken(NamedTuple):
    """How long a user waited for the first token of a stream."""

    at: float
    """When it was asked for, in seconds since the epoch."""
    milliseconds: float


@dataclass(frozen=True)
class Waits:
    """How long some requests waited; None where there were none."""

    requests: int
    p50_ms: float | None
    p99_ms: float | None

    def __str__(self) -> str:
        """For the table's foot."""
        if self.p99_ms is None:
            return "no request"
        return f"p99 {self.p99_ms:.0f} ms, median {self.p50_ms:.0f} ms, {self.requests} requests"


@dataclass(frozen=True)
class Felt:
    """Both kinds of times."""

    compared: Waits
    """While a candidate was compared with the revision that serves."""
    otherwise: Waits

    @property
    def p99_ratio(self) -> float | None:
        """Of the comparisons over all other times."""
        if self.compared.p99_ms is None or not self.otherwise.p99_ms:
            return None
        return round(self.compared.p99_ms / self.otherwise.p99_ms, 2)


def felt(tokens: Sequence[FirstToken], comparisons: Sequence[Span]) -> Felt:
    """Split the first tokens by when they were asked for."""
    compared: list[float] = []
    otherwise: list[float] = []
    for at, milliseconds in tokens:
        during = any(began <= at < ended for began, ended in comparisons)
        (compared if during else otherwise).append(milliseconds)
    return Felt(_waits(compared), _waits(otherwise))


def _waits(milliseconds: Sequence[float]) -> Waits:
    if not milliseconds:
        return Waits(0, None, None)
    p50_ms, p99_ms = (round(percentile(milliseconds, share), 1) for share in (0.5, 0.99))
    return Waits(len(milliseconds), p50_ms, p99_ms)
