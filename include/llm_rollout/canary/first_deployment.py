"""A candidate without a stable revision beside it: every task once, held against the limits of the spec."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llm_rollout.canary.back_pressure import percentile
from llm_rollout.canary.judge import Decision
from llm_rollout.canary.rounds import Answer

_SHARE = 0.95


@dataclass(frozen=True)
class Floors:
    """What a first deployment has to reach, as shares of 1: plain shares of the whole set, no estimate."""

    min_accuracy: float = 0.5
    max_error_rate: float = 0.02
    max_ttft_ms: float | None = None
    """Of 95 in 100 complete answers; None asks for nothing, because what is slow depends on model and prompts."""


@dataclass(frozen=True)
class Tally:
    """One side's requests."""

    requests: int
    errors: int
    graded: int
    correct: int
    ttft_ms_p95: float | None = None
    """None where no answer was timed."""


def tally(answers: Sequence[Answer]) -> Tally:
    """Count one side's answers."""
    graded = [answer.correct for answer in answers if answer.ok and answer.correct is not None]
    times = [answer.ttft_ms for answer in answers if answer.ok and answer.ttft_ms is not None]
    slow = percentile(times, _SHARE) if times else None
    return Tally(len(answers), sum(not answer.ok for answer in answers), len(graded), sum(graded), slow)


def judge(floors: Floors, seen: Tally) -> Decision:
    """Promote or roll back; errors come first, since an answer that did not come is neither right nor wrong."""
    if not seen.requests:
        return Decision("undecided", None, "no task was asked")
    failed = f"{seen.errors} of {seen.requests} requests failed (at most {100 * floors.max_error_rate:g} % may)"
    if seen.errors > floors.max_error_rate * seen.requests or not seen.graded:
        return Decision("rollback", "errors", f"errors: {failed}")
    accuracy = seen.correct / seen.graded
    graded = f"accuracy {accuracy:.2f} over {seen.graded} tasks (at least {floors.min_accuracy:.2f} is asked for)"
    if accuracy < floors.min_accuracy:
        return Decision("rollback", "quality", f"{graded}; {failed}")
    if floors.max_ttft_ms is not None and (seen.ttft_ms_p95 is None or seen.ttft_ms_p95 > floors.max_ttft_ms):
        return Decision("rollback", "ttft", f"{_slow(seen, floors.max_ttft_ms)}; {graded}; {failed}")
    return Decision("promote", None, f"first deployment: {graded}; {failed}")


def cut_short(seen: Tally, tasks: int, reason: str) -> Decision:
    """Not all tasks were asked: no share of the whole set is known."""
    return Decision("undecided", None, f"{seen.requests} of {tasks} tasks were asked: {reason}")


def _slow(seen: Tally, limit_ms: float) -> str:
    took = (
        "no answer was timed" if seen.ttft_ms_p95 is None else f"95 of 100 first tokens took {seen.ttft_ms_p95:.0f} ms"
    )
    return f"{took} (at most {limit_ms:g} ms may)"
