"""How peers decide, written anew from what they publish. All see the same pairs, in the same order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from math import log, sqrt
from statistics import median

import numpy as np

from llm_rollout.canary.rounds import Answer, Pair

End = tuple[str, int]
Rule = Callable[[Iterable[list[Pair]]], End]
_P99_LIMIT_MS, _QUALITY_LIMIT = 1200.0, 0.87
"""A quarter more than stable's p99, and 3 points less than its accuracy."""
_P95_MS = 683.0
"""Stable's."""
_CONFIDENT = 2.326
"""Deviations of the normal distribution: two-sided 98 %."""


def _windows(rounds: Iterable[list[Pair]], size: int) -> Iterator[list[Pair]]:
    pairs = chain.from_iterable(rounds)
    while window := list(islice(pairs, size)):
        yield window


def _limits_broken(window: Sequence[Pair], success: float, quality: float | None) -> bool:
    answers = [pair.candidate for pair in window]
    times = sorted(answer.ttft_ms for answer in answers if answer.ttft_ms is not None)
    grades = [answer.correct for answer in answers if answer.correct is not None]
    failing = sum(answer.ok for answer in answers) < success * len(answers)
    slow = not times or _p99(times) > _P99_LIMIT_MS
    wrong = quality is not None and (not grades or sum(grades) < quality * len(grades))
    return failing or slow or wrong


def _p99(times: Sequence[float]) -> float:
    """Between the two nearest of the sorted times, as monitoring systems do."""
    at = 0.99 * (len(times) - 1)
    low = int(at)
    return times[low] + (at - low) * (times[min(low + 1, len(times) - 1)] - times[low])


def _checks(size: int, number: int, failures: int, success: float, quality: float | None) -> Rule:
    """So many checks of fixed limits; rolled back at so many failed ones."""

    def decide(rounds: Iterable[list[Pair]]) -> End:
        failed = passed = pairs = 0
        for window in _windows(rounds, size):
            pairs += len(window)
            broken = _limits_broken(window, success, quality)
            failed, passed = failed + broken, passed + (not broken)
            if failed >= failures:
                return "rollback", pairs
            if passed >= number:
                return "promote", pairs
        return "undecided", pairs

    return decide


def naive(rounds: Iterable[list[Pair]]) -> End:
    """A t-test of each metric after every round, at 5 %; promoted at the end if nothing was found."""
    differences: tuple[list[float], ...] = ([], [], [], [])
    pairs = 0
    for window in rounds:
        pairs += len(window)
        for stable, candidate in window:
            errors, times, tail, quality = differences
            errors.append(stable.ok - candidate.ok)
            if stable.ttft_ms is not None and candidate.ttft_ms is not None:
                times.append(log(candidate.ttft_ms / stable.ttft_ms))
                tail.append((candidate.ttft_ms > _P95_MS) - (stable.ttft_ms > _P95_MS))
            if stable.correct is not None and candidate.correct is not None:
                quality.append(stable.correct - candidate.correct)
        if any(_t(values) > 1.645 for values in differences):  # noqa: PLR2004 - one-sided 5 %
            return "rollback", pairs
    return "promote", pairs


def _t(values: Sequence[float]) -> float:
    number = len(values)
    if number < 2:  # noqa: PLR2004 - a deviation takes two
        return 0.0
    mean = sum(values) / number
    variance = sum([value * value for value in values]) / number - mean * mean
    return mean * sqrt(number / variance) if variance > 0 else 0.0


def _kayenta(every: int) -> Rule:
    """NetflixACAJudge on 60 points, a round each, and before that every so many; one of 4 metrics fails it."""

    def decide(rounds: Iterable[list[Pair]]) -> End:
        series: list[tuple[list[float], list[float]]] = [([], []) for _ in range(4)]
        points = pairs = 0
        for window in rounds:
            points, pairs = points + 1, pairs + len(window)
            for side in (0, 1):
                _add_point(series, side, [pair[side] for pair in window])
            if points % every == 0 and any(_high(stable, candidate) for stable, candidate in series):
                return "rollback", pairs
        return "promote", pairs

    return decide


def _add_point(series: Sequence[tuple[list[float], list[float]]], side: int, answers: Sequence[Answer]) -> None:
    """Error rate, median, p99 and rate of wrong answers."""
    times = sorted(answer.ttft_ms for answer in answers if answer.ttft_ms is not None)
    grades = [answer.correct for answer in answers if answer.correct is not None]
    series[0][side].append(sum(not answer.ok for answer in answers) / len(answers))
    if times:
        series[1][side].append(median(times))
        series[2][side].append(_p99(times))
    if grades:
        series[3][side].append(1 - sum(grades) / len(grades))


def _high(stable: Sequence[float], candidate: Sequence[float]) -> bool:
    """Mann-Whitney: the shift's lower bound at 98 % is above 0.25 of the shift itself, and the mean is not lower."""
    if not stable or not candidate or sum(candidate) / len(candidate) < sum(stable) / len(stable):
        return False
    shifts = np.sort(np.subtract.outer(np.array(candidate), np.array(stable)), axis=None)
    n, m = len(candidate), len(stable)
    _, equal = np.unique(np.array([*stable, *candidate]), return_counts=True)
    ties = float((equal**3 - equal).sum()) / ((n + m) * (n + m - 1))
    deviation = sqrt(n * m / 12 * (n + m + 1 - ties))
    lowest = int(n * m / 2 - _CONFIDENT * deviation - 0.5)
    return lowest >= 0 and bool(shifts[lowest] > 0.25 * abs(np.median(shifts)))


RULES: dict[str, Rule] = {
    "Flagger, docs": _checks(50, 25, 10, 0.99, None),
    "Flagger, 250 requests": _checks(250, 10, 5, 0.99, _QUALITY_LIMIT),
    "Argo, docs": _checks(250, 10, 4, 0.95, _QUALITY_LIMIT),
    "Argo, no failure": _checks(250, 10, 1, 0.99, _QUALITY_LIMIT),
    "Kayenta, once": _kayenta(60),
    "Kayenta, every 10 points": _kayenta(10),
    "t-test, every round": naive,
}
