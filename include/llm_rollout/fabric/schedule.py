"""Measure every pair on every device in rounds of disjoint pairs, then once more what was not good."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Protocol

from llm_rollout.fabric.rounds import Pair, rounds
from llm_rollout.fabric.rows import Failure, Limits, Result, Row, better, graded

Cell = tuple[int, int, str]
"""Server, client, device."""


class Bench(Protocol):
    """Takes one measurement; blocks until it is there or has failed."""

    def name(self, index: int) -> str:
        """The node of a member."""

    def rate_gbps(self, server: int, client: int, hca: str) -> float | None:
        """The active port rate between two members, None when unknown."""

    def bandwidth(self, server: int, client: int, hca: str) -> Result:
        """Gb/s from client to server."""

    def latency(self, server: int, client: int, hca: str) -> Result:
        """Microseconds at the 99th percentile from client to server."""


@dataclass(frozen=True)
class PairDone:
    """One pair has been measured: ``rows`` is what was seen, ``done`` of ``total`` pairs are finished."""

    round: int
    rounds: int
    done: int
    total: int
    rows: tuple[Row, ...]
    retry: bool = False


@dataclass(frozen=True)
class Schedule:
    """What to measure. ``deadline`` in monotonic seconds: later rounds are not begun, their rows could not run."""

    count: int
    hcas: tuple[str, ...]
    limits: Limits
    deadline: float

    def run(self, bench: Bench, on_pair: Callable[[PairDone], None]) -> list[Row]:
        """All rows in order of rounds. A row that is not good is measured once more and the better try counts."""
        planned = rounds(self.count)
        everything = {(s, c, hca) for pairs in planned for pair in pairs for s, c in _ways(pair) for hca in self.hcas}
        first = _Pass(self, bench, on_pair, retry=False).run(planned, everything)
        again = {cell for cell, row in first.items() if row.status not in {"ok", "warn"}}
        second = _Pass(self, bench, on_pair, retry=True).run(planned, again)
        return [better(row, second[cell]) if cell in second else row for cell, row in first.items()]


class _Pass:
    """One pass over the rounds, restricted to some cells."""

    def __init__(self, schedule: Schedule, bench: Bench, on_pair: Callable[[PairDone], None], *, retry: bool) -> None:
        self._schedule, self._bench, self._on_pair, self._retry = schedule, bench, on_pair, retry
        self._done = 0

    def run(self, planned: Sequence[Sequence[Pair]], cells: Collection[Cell]) -> dict[Cell, Row]:
        wanted = [[pair for pair in pairs if any(set(pair) == {s, c} for s, c, _ in cells)] for pairs in planned]
        total = sum(len(pairs) for pairs in wanted)
        rows: dict[Cell, Row] = {}
        with ThreadPoolExecutor(max_workers=max(1, self._schedule.count // 2)) as pool:
            for number, pairs in enumerate(wanted, start=1):
                started = [pool.submit(self._pair, number, pair, cells) for pair in pairs]
                rows |= self._collect(started, number, (len(planned), total))
        return rows

    def _collect(
        self, started: Sequence[Future[dict[Cell, Row]]], number: int, counts: tuple[int, int]
    ) -> dict[Cell, Row]:
        rows: dict[Cell, Row] = {}
        for future in as_completed(started):
            found = future.result()
            rows |= found
            self._done += 1
            seen = tuple(found.values())
            self._on_pair(PairDone(number, counts[0], self._done, counts[1], seen, self._retry))
        return rows

    def _pair(self, number: int, pair: Pair, cells: Collection[Cell]) -> dict[Cell, Row]:
        """Both ways, one after the other; all devices together as in real traffic, latency without load."""
        rows: dict[Cell, Row] = {}
        for server, client in _ways(pair):
            way = [(server, client, hca) for hca in self._schedule.hcas if (server, client, hca) in cells]
            if way:
                rows |= self._way(number, way)
        return rows

    def _way(self, number: int, way: Sequence[Cell]) -> dict[Cell, Row]:
        if time.monotonic() > self._schedule.deadline:
            late = Failure("could_not_run", "the probe's deadline had passed")
            return {cell: graded(self._row(number, cell), late, late, self._schedule.limits) for cell in way}
        with ThreadPoolExecutor(max_workers=len(way)) as pool:
            bandwidths = list(pool.map(lambda cell: self._bench.bandwidth(*cell), way))
            latencies = list(pool.map(self._latency, way, bandwidths))
        results = zip(way, bandwidths, latencies, strict=True)
        return {cell: graded(self._row(number, cell), bw, lat, self._schedule.limits) for cell, bw, lat in results}

    def _latency(self, cell: Cell, bandwidth: Result) -> Result:
        """A path that carried nothing is not asked for its latency."""
        return bandwidth if isinstance(bandwidth, Failure) else self._bench.latency(*cell)

    def _row(self, number: int, cell: Cell) -> Row:
        server, client, hca = cell
        rate = self._bench.rate_gbps(server, client, hca)
        names = self._bench.name(server), self._bench.name(client)
        return Row(number, *names, hca, None, rate, None, "could_not_run")


def _ways(pair: Pair) -> tuple[Pair, Pair]:
    return pair, (pair[1], pair[0])
