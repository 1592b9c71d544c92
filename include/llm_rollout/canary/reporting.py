"""What a comparison prints: a line after every round, the report last."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from llm_rollout.canary.back_pressure import percentile
from llm_rollout.canary.judge import Decision, Judge, Standing
from llm_rollout.canary.rotation import Reply
from llm_rollout.canary.rules import Rules

_FAILURES_NAMED = 5


class Kept:
    """Why requests failed, and their times, on both sides: evidence that the judge does not need and people do."""

    def __init__(self) -> None:
        """Begin with nothing: what an interrupted comparison saw before is in the judge's totals alone."""
        self._stable: list[Reply] = []
        self._candidate: list[Reply] = []

    def add(self, replies: Sequence[tuple[Reply, Reply]]) -> None:
        """Take in a round."""
        self._stable += [stable for stable, _ in replies]
        self._candidate += [candidate for _, candidate in replies]

    def sides(self, standing: Standing) -> tuple[dict[str, Any], dict[str, Any]]:
        """The candidate's and stable's part of the report."""
        totals = standing.totals
        candidate = {"errors": totals.candidate_failed, "correct": totals.candidate_correct}
        stable = {"errors": totals.stable_failed, "correct": totals.stable_correct}
        both = {"requests": totals.pairs, "graded": totals.graded}
        return both | candidate | side(self._candidate), both | stable | side(self._stable)


def side(replies: Sequence[Reply]) -> dict[str, Any]:
    """One side's times in milliseconds and why its requests failed, as far as there is anything to say."""
    ttft = [reply.ttft_ms for reply in replies if reply.ttft_ms is not None]
    itl = [reply.itl_ms for reply in replies if reply.itl_ms is not None]
    reasons = Counter(reply.failure for reply in replies if reply.failure)
    times: dict[str, Any] = {}
    if ttft:
        times |= {"ttft_ms_median": _median(ttft), "ttft_ms_p99": round(percentile(ttft, 0.99), 1)}
    if itl:
        times |= {"itl_ms_median": _median(itl)}
    return times | ({"failures": dict(reasons.most_common(_FAILURES_NAMED))} if reasons else {})


def progress(rules: Rules, standing: Standing) -> dict[str, Any]:
    """The line after a round: where each pot stands."""
    judge = Judge(rules)
    pots = {
        metric: {"worse": _short(worse), "not_worse": _short(held)}
        for metric, (worse, held) in judge.evidence(standing).items()
        if metric in rules.required
    }
    return {
        "event": "progress",
        "round": standing.rounds,
        "pairs": standing.totals.pairs,
        "decision": standing.decision.outcome,
        "wealth": _short(judge.wealth(standing)),
        "pots": pots,
    }


def report(
    decision: Decision, pairs: int, rounds: int, candidate: dict[str, Any], stable: dict[str, Any] | None
) -> dict[str, Any]:
    """The last line."""
    return {
        "event": "report",
        "decision": decision.outcome,
        "metric": decision.metric,
        "sentence": decision.sentence,
        "pairs": pairs,
        "rounds": rounds,
        "candidate": candidate,
        "stable": stable,
    }


def _median(times_ms: Sequence[float]) -> float:
    return round(percentile(times_ms, 0.5), 1)


def _short(number: float) -> float:
    return float(f"{number:.3g}")
