"""One measurement from one node to another on one device, and its grade."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

Status = Literal["ok", "warn", "bad", "could_not_run"]

_ORDER: dict[Status, int] = {"ok": 0, "warn": 1, "bad": 2, "could_not_run": 3}
_ORDINALS = ("first", "second", "third", "fourth", "fifth")
"""As many attempts as a spec may ask for."""


@dataclass(frozen=True)
class Limits:
    """What is good enough: parts of the active port rate, and microseconds at the 99th percentile."""

    min_fraction: float
    warn_fraction: float
    max_latency_usec: float


@dataclass(frozen=True)
class Measured:
    """A tool's number: Gb/s (10^9 bits) or microseconds. ``simulated`` when the tool says so itself."""

    value: float
    simulated: bool = False


@dataclass(frozen=True)
class Failure:
    """A tool gave no number: ``bad`` when the RDMA path failed, ``could_not_run`` when it was never tried."""

    status: Literal["bad", "could_not_run"]
    detail: str


Result = Measured | Failure


@dataclass(frozen=True)
class Try:
    """What one of several attempts at a cell saw."""

    gbps: float | None
    p99_usec: float | None
    status: Status
    detail: str


@dataclass(frozen=True)
class Row:
    """``client`` writes to ``server``: the direction of the data. None is "not measured".

    ``detail`` says in numbers why the status is not ok, ``other_try`` what the tries saw that do not count;
    ``attempts`` has all of them in order, where there was more than one.
    """

    round: int
    server: str
    client: str
    hca: str
    gbps: float | None
    rate_gbps: float | None
    p99_usec: float | None
    status: Status
    detail: str = ""
    other_try: str = ""
    simulated: bool = False
    attempts: tuple[Try, ...] = ()

    @property
    def tries(self) -> tuple[Try, ...]:
        """What each attempt saw, the only one too."""
        return self.attempts or (Try(self.gbps, self.p99_usec, self.status, self.detail),)

    @property
    def pair(self) -> tuple[str, str]:
        """Both nodes in name order."""
        return min(self.server, self.client), max(self.server, self.client)

    def as_json(self) -> dict[str, Any]:
        """As the report and the progress lines show it."""
        shown = {key: value for key, value in asdict(self).items() if key not in {"other_try", "simulated"}}
        return shown | {"detail": "; ".join(filter(None, [self.detail, self.other_try]))}


def graded(row: Row, bandwidth: Result, latency: Result, limits: Limits) -> Row:
    """``row`` with the numbers of one try; the worse of bandwidth and latency decides."""
    grades = [_bandwidth_grade(bandwidth, row.rate_gbps, limits), _latency_grade(latency, limits)]
    measured_bad = [grade for grade in grades if grade[0] == "bad"]
    status, _ = measured_bad[0] if measured_bad else max(grades, key=lambda grade: _ORDER[grade[0]])
    return replace(
        row,
        gbps=_value(bandwidth),
        p99_usec=_value(latency),
        status=status,
        detail="; ".join(dict.fromkeys(detail for _, detail in grades if detail)),
        simulated=any(isinstance(result, Measured) and result.simulated for result in (bandwidth, latency)),
    )


def better(first: Row, second: Row) -> Row:
    """The better of two, whose detail reports all their tries. One flake in many cells must not raise an alarm."""
    tries = first.tries + second.tries
    best = min(range(len(tries)), key=lambda number: _rank(tries[number]))
    others = [f"{_ORDINALS[number]} try: {_shown(one)}" for number, one in enumerate(tries) if number != best]
    return replace(min(first, second, key=_rank), other_try="; ".join(others), attempts=tries)


def _rank(seen: Row | Try) -> tuple[int, float]:
    return _ORDER[seen.status], -(seen.gbps or 0.0)


def _bandwidth_grade(result: Result, rate_gbps: float | None, limits: Limits) -> tuple[Status, str]:
    if isinstance(result, Failure):
        return result.status, result.detail
    if rate_gbps is None:
        return "could_not_run", "the port rate is not known: ibv_devinfo -v shows no width and speed"
    steps: tuple[tuple[Status, float], ...] = (("bad", limits.min_fraction), ("warn", limits.warn_fraction))
    for status, fraction in steps:
        if result.value < fraction * rate_gbps:
            return status, f"{result.value:.4g} Gb/s < {fraction:.2f} × {rate_gbps:.4g} Gb/s"  # noqa: RUF001 - a product
    return "ok", ""


def _latency_grade(result: Result, limits: Limits) -> tuple[Status, str]:
    if isinstance(result, Failure):
        return result.status, result.detail
    if result.value > limits.max_latency_usec:
        return "bad", f"p99 {result.value:.3g} usec > {limits.max_latency_usec:.3g} usec"
    return "ok", ""


def _value(result: Result) -> float | None:
    return round(result.value, 2) if isinstance(result, Measured) else None


def _shown(seen: Try) -> str:
    return seen.detail or f"{seen.gbps:.4g} Gb/s"
