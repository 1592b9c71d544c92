"""What was seen: answers in pairs, the same prompt asked of stable and of the candidate at the same time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple


class Answer(NamedTuple):
    """How one request ended."""

    ok: bool
    """Answered completely: status 200, a finish reason and the end mark of the stream."""
    ttft_ms: float | None = None
    total_ms: float | None = None
    tokens: int | None = None
    correct: bool | None = None
    """Graded; None where there is no grade or where this prompt was graded before: it counts once in a rollout."""
    prompt_tokens: int | None = None
    """Where it is known, only prompts of like lengths are compared in time."""


class Pair(NamedTuple):
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
        return Counts(
            self.pairs + other.pairs,
            self.candidate_failed + other.candidate_failed,
            self.stable_failed + other.stable_failed,
            self.only_candidate_failed + other.only_candidate_failed,
            self.only_stable_failed + other.only_stable_failed,
            self.graded + other.graded,
            self.candidate_correct + other.candidate_correct,
            self.stable_correct + other.stable_correct,
            self.only_candidate_wrong + other.only_candidate_wrong,
            self.only_stable_wrong + other.only_stable_wrong,
        )

    def as_json(self) -> dict[str, int]:
        """By name."""
        return asdict(self)


def count(pairs: Sequence[Pair]) -> Counts:
    """Count the pairs of a round."""
    both = only_stable = only_candidate = 0
    right = worse = better = wrong = 0
    # A judge on standard input sees thousands of rounds a second, so each pair is looked at once.
    for stable, candidate in pairs:
        if not (stable.ok and candidate.ok):
            only_stable += candidate.ok
            only_candidate += stable.ok
            continue
        both += 1
        before, now = stable.correct, candidate.correct
        if before is None or now is None:
            continue
        if before:
            right, worse = right + now, worse + (not now)
        else:
            better, wrong = better + now, wrong + (not now)
    failed = len(pairs) - both
    return Counts(
        pairs=len(pairs),
        candidate_failed=failed - only_stable,
        stable_failed=failed - only_candidate,
        only_candidate_failed=only_candidate,
        only_stable_failed=only_stable,
        graded=right + worse + better + wrong,
        candidate_correct=right + better,
        stable_correct=right + worse,
        only_candidate_wrong=worse,
        only_stable_wrong=better,
    )
