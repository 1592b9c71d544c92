"""What was seen: answers in pairs, the same prompt asked of stable and of the candidate at the same time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, astuple, dataclass


@dataclass(frozen=True, slots=True)
class Answer:
    """How one request ended."""

    ok: bool
    """Answered completely: status 200, a finish reason and the end mark of the stream."""
    ttft_ms: float | None = None
    total_ms: float | None = None
    tokens: int | None = None
    correct: bool | None = None
    """Graded; None where there is no grade or where this prompt was graded before: it counts once in a rollout."""


@dataclass(frozen=True, slots=True)
class Pair:
    """The two answers to one prompt."""

    stable: Answer
    candidate: Answer


@dataclass(frozen=True, slots=True)
class Counts:
    """What errors and quality need to know about some pairs."""

    pairs: int = 0
    candidate_failed: int = 0
    stable_failed: int = 0
    only_candidate_failed: int = 0
    only_stable_failed: int = 0
    graded: int = 0
    """Pairs graded on both sides."""
    candidate_correct: int = 0
    stable_correct: int = 0
    only_candidate_wrong: int = 0
    only_stable_wrong: int = 0

    def __add__(self, other: Counts) -> Counts:
        """Of both together."""
        return Counts(*(mine + theirs for mine, theirs in zip(astuple(self), astuple(other), strict=True)))

    def as_json(self) -> dict[str, int]:
        """By name."""
        return asdict(self)


def count(pairs: Iterable[Pair]) -> Counts:
    """Count the pairs of a round."""
    # Few kinds of pairs exist, so each is looked at once: a judge on standard input sees thousands of rounds a second.
    kinds = Counter((pair.stable.ok, pair.candidate.ok, _correct(pair)) for pair in pairs)
    return sum((_of(*kind, number) for kind, number in kinds.items()), Counts())


def _correct(pair: Pair) -> tuple[bool, bool] | None:
    """Stable's and the candidate's grade where both have one."""
    stable, candidate = pair.stable, pair.candidate
    if not (stable.ok and candidate.ok) or stable.correct is None or candidate.correct is None:
        return None
    return stable.correct, candidate.correct


def _of(stable_ok: bool, candidate_ok: bool, correct: tuple[bool, bool] | None, number: int) -> Counts:  # noqa: FBT001 - a key
    stable_right, candidate_right = correct or (False, False)
    return Counts(
        pairs=number,
        candidate_failed=number * (not candidate_ok),
        stable_failed=number * (not stable_ok),
        only_candidate_failed=number * (stable_ok and not candidate_ok),
        only_stable_failed=number * (candidate_ok and not stable_ok),
        graded=number * (correct is not None),
        candidate_correct=number * candidate_right,
        stable_correct=number * stable_right,
        only_candidate_wrong=number * (stable_right and not candidate_right),
        only_stable_wrong=number * (candidate_right and not stable_right),
    )
