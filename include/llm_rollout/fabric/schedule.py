"""Measure every pair on every device in rounds of disjoint pairs, then again what was not good.

A cell below the limits is tried again: together (as in real traffic), together with the others that failed, and in the
end alone. Its best try counts: one flake in many cells must not raise an alarm. All are reported.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Protocol

from llm_rollout.fabric.rounds import Pair, rounds
from llm_rollout.fabric.rows import Failure, Limits, Result, Row, better, graded

Cell = tuple[int, int, str]
"""Server, client, device."""
Tries = dict[Cell, list[Row]]
"""What each try of a cell saw, in order."""

_Task = list[list[Cell]]
"""What one thread does: groups of cells one after the other, the cells of a group at once."""
_TOGETHER = 2
"""Tries before a cell is taken alone."""
_MOST_ALONE = 24
"""More cells than these are not taken alone on the whole fabric but alone for each pair: it would take too long."""


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
    """One pair has been measured: ``rows`` is what was seen, ``done`` of this attempt's ``total`` are finished."""

    round: int
    rounds: int
    done: int
    total: int
    rows: tuple[Row, ...]
    attempt: int = 1


@dataclass(frozen=True)
class Schedule:
    """What to measure. ``deadline`` in monotonic seconds: later rounds are not begun, their rows could not run."""

    count: int
    hcas: tuple[str, ...]
    limits: Limits
    deadline: float
    attempts: int = 3

    def run(self, bench: Bench, on_pair: Callable[[PairDone], None]) -> Tries:
        """All cells in order of rounds, each with its tries: one when it is good, else up to ``attempts``."""
        planned = rounds(self.count)
        ways = [way for pairs in planned for pair in pairs for way in _ways(pair)]
        tries: Tries = {(*way, hca): [] for way in ways for hca in self.hcas}
        for attempt in range(1, self.attempts + 1):
            left = [cell for cell, seen in tries.items() if not any(row.status == "ok" for row in seen)]
            alone = attempt > _TOGETHER and attempt == self.attempts
            plan = _alone(planned, left) if alone else _together(planned, left)
            for cell, row in _Pass(self, bench, on_pair, attempt).run(plan).items():
                tries[cell].append(row)
        return tries


def counted(tries: Tries) -> list[Row]:
    """The best try of each cell, whose detail reports the others too."""
    return [functools.reduce(better, seen) for seen in tries.values()]


def _together(planned: Sequence[Sequence[Pair]], cells: Collection[Cell]) -> list[list[_Task]]:
    """Pairs of a round at once; both ways one after the other; all devices together as in real traffic."""
    wanted = set(cells)
    plan = [[_both_ways(pair, cells, wanted) for pair in pairs] for pairs in planned]
    return [tasks for tasks in ([task for task in tasks if task] for tasks in plan) if tasks]


def _both_ways(pair: Pair, cells: Collection[Cell], wanted: Collection[Cell]) -> _Task:
    hcas = dict.fromkeys(hca for _, _, hca in cells)
    groups = [[(*way, hca) for hca in hcas if (*way, hca) in wanted] for way in _ways(pair)]
    return [group for group in groups if group]


def _alone(planned: Sequence[Sequence[Pair]], cells: Sequence[Cell]) -> list[list[_Task]]:
    """Nothing else at the same time; with many cells nothing else between the same two."""
    if len(cells) <= _MOST_ALONE:
        return [[[[cell]]] for cell in cells]
    together = _together(planned, cells)
    return [[[[cell] for group in task for cell in group] for task in tasks] for tasks in together]


class _Pass:
    """One attempt at some of the cells."""

    def __init__(self, schedule: Schedule, bench: Bench, on_pair: Callable[[PairDone], None], attempt: int) -> None:
        self._schedule, self._bench, self._on_pair, self._attempt = schedule, bench, on_pair, attempt
        self._done = 0

    def run(self, plan: Sequence[Sequence[_Task]]) -> dict[Cell, Row]:
        total = sum(len(tasks) for tasks in plan)
        rows: dict[Cell, Row] = {}
        with ThreadPoolExecutor(max_workers=max(1, self._schedule.count // 2)) as pool:
            for number, tasks in enumerate(plan, start=1):
                started = [pool.submit(self._task, number, task) for task in tasks]
                rows |= self._collect(started, number, (len(plan), total))
        return rows

    def _collect(
        self, started: Sequence[Future[dict[Cell, Row]]], number: int, counts: tuple[int, int]
    ) -> dict[Cell, Row]:
        rows: dict[Cell, Row] = {}
        for future in as_completed(started):
            found = future.result()
            rows |= found
            self._done += 1
            if found:
                seen = tuple(found.values())
                self._on_pair(PairDone(number, counts[0], self._done, counts[1], seen, self._attempt))
        return rows

    def _task(self, number: int, task: _Task) -> dict[Cell, Row]:
        rows: dict[Cell, Row] = {}
        for group in task:
            rows |= self._group(number, group)
        return rows

    def _group(self, number: int, group: Sequence[Cell]) -> dict[Cell, Row]:
        """Bandwidth of all at once, then latency without load. Too late for another try, the earlier ones stand."""
        if time.monotonic() > self._schedule.deadline:
            late = Failure("could_not_run", "the probe's deadline had passed")
            return {cell: self._graded(number, cell, late, late) for cell in group} if self._attempt == 1 else {}
        with ThreadPoolExecutor(max_workers=len(group)) as pool:
            bandwidths = list(pool.map(lambda cell: self._bench.bandwidth(*cell), group))
            latencies = list(pool.map(self._latency, group, bandwidths))
        results = zip(group, bandwidths, latencies, strict=True)
        return {cell: self._graded(number, cell, bandwidth, latency) for cell, bandwidth, latency in results}

    def _latency(self, cell: Cell, bandwidth: Result) -> Result:
        """A path that carried nothing is not asked for its latency."""
        return bandwidth if isinstance(bandwidth, Failure) else self._bench.latency(*cell)

    def _graded(self, number: int, cell: Cell, bandwidth: Result, latency: Result) -> Row:
        server, client, hca = cell
        rate = self._bench.rate_gbps(server, client, hca)
        names = self._bench.name(server), self._bench.name(client)
        row = Row(number, *names, hca, None, rate, None, "could_not_run")
        return graded(row, bandwidth, latency, self._schedule.limits)


def _ways(pair: Pair) -> tuple[Pair, Pair]:
    return pair, (pair[1], pair[0])
