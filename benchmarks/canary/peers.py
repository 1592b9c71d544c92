"""How peers decide, written anew from what they publish. All see the same pairs, in the same order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice
from math import erfc, sqrt
from statistics import fmean, median

from llm_rollout.canary.rounds import Pair

End = tuple[str, int]
_P99_LIMIT_MS, _QUALITY_LIMIT = 1200.0, 0.86


def _windows(rounds: Iterator[list[Pair]], size: int) -> Iterator[list[Pair]]:
    pairs = chain.from_iterable(rounds)
    while window := list(islice(pairs, size)):
        yield window


def _limits_broken(window: Sequence[Pair], success: float, quality: float | None) -> bool:
    answers = [pair.candidate for pair in window]
    times = sorted(answer.ttft_ms for answer in answers if answer.ttft_ms is not None)
    grades = [answer.correct for answer in answers if answer.correct is not None]
    failing = sum(answer.ok for answer in answers) < success * len(answers)
    slow = not times or times[int(0.99 * len(times))] > _P99_LIMIT_MS
    wrong = quality is not None and (not grades or fmean(grades) < quality)
    return failing or slow or wrong


def _checks(size: int, number: int, failures: int, success: float, quality: float | None) -> Callable[..., End]:
    """So many checks of fixed limits; rolled back at so many failed ones."""

    def decide(rounds: Iterator[list[Pair]]) -> End:
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


def naive(rounds: Iterator[list[Pair]]) -> End:
    """A t-test of each metric after every round, at 5 %; promoted at the end if nothing was found."""
    differences: dict[str, list[float]] = {"errors": [], "ttft": [], "quality": []}
    pairs = 0
    for window in rounds:
        pairs += len(window)
        for stable, candidate in window:
            differences["errors"].append(stable.ok - candidate.ok)
            if stable.ttft_ms is not None and candidate.ttft_ms is not None:
                differences["ttft"].append(candidate.ttft_ms - stable.ttft_ms)
            if stable.correct is not None and candidate.correct is not None:
                differences["quality"].append(stable.correct - candidate.correct)
        if any(_t(values) > 1.645 for values in differences.values()):  # noqa: PLR2004 - one-sided 5 %
            return "rollback", pairs
    return "promote", pairs


def _t(values: Sequence[float]) -> float:
    number = len(values)
    if number < 2:  # noqa: PLR2004 - a deviation takes two
        return 0.0
    mean = sum(values) / number
    variance = sum(value * value for value in values) / number - mean * mean
    return mean * sqrt(number / variance) if variance > 0 else 0.0


def kayenta(rounds: Iterator[list[Pair]]) -> End:
    """NetflixACAJudge once over 60 points: Mann-Whitney at 98 % and the means compared; one of 4 metrics fails it."""
    series: list[tuple[list[float], list[float]]] = [([], []) for _ in range(4)]
    pairs = 0
    for window in rounds:
        pairs += len(window)
        for side in (0, 1):
            answers = [pair[side] for pair in window]
            times = sorted(answer.ttft_ms for answer in answers if answer.ttft_ms is not None)
            grades = [answer.correct for answer in answers if answer.correct is not None]
            series[0][side].append(fmean(not answer.ok for answer in answers))
            if times:
                series[1][side].append(median(times))
                series[2][side].append(times[int(0.99 * len(times))])
            if grades:
                series[3][side].append(1 - fmean(grades))
    failed = sum(_high(stable, candidate) for stable, candidate in series)
    return ("rollback" if failed else "promote"), pairs


def _high(stable: Sequence[float], candidate: Sequence[float]) -> bool:
    """Significantly higher, and the mean not lower."""
    if not stable or not candidate or fmean(candidate) <= fmean(stable):
        return False
    above = sum((one > other) + 0.5 * (one == other) for one in candidate for other in stable)
    n, m = len(candidate), len(stable)
    values = sorted([*stable, *candidate])
    ties = sum(values.count(value) ** 3 - values.count(value) for value in set(values))
    variance = n * m / 12 * (n + m + 1 - ties / ((n + m) * (n + m - 1)))
    if variance <= 0:
        return False
    score = (above - n * m / 2 - 0.5) / sqrt(variance)
    return erfc(score / sqrt(2)) < 0.02  # noqa: PLR2004 - two-sided, confidence 98 %


RULES: dict[str, Callable[[Iterator[list[Pair]]], End]] = {
    "Flagger, docs": _checks(50, 25, 10, 0.99, None),
    "Flagger, 250 requests": _checks(250, 10, 5, 0.99, _QUALITY_LIMIT),
    "Argo, docs": _checks(250, 10, 4, 0.95, _QUALITY_LIMIT),
    "Argo, no failure": _checks(250, 10, 1, 0.99, _QUALITY_LIMIT),
    "Kayenta, once": kayenta,
    "t-test, every round": naive,
}
