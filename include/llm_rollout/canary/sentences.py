"""A decision in one sentence with its counts: what a person reads first, at night, without the evidence beside it."""

from __future__ import annotations

from collections.abc import Mapping

from llm_rollout.canary.rounds import Counts
from llm_rollout.canary.rules import Rules

_HEALTHY_ENOUGH = 0.5


def rolled_back(rules: Rules, totals: Counts, metric: str, wealth: float) -> str:
    """Why the candidate is worse."""
    told = _quality_lost(totals) if metric == "quality" else _errors_lost(totals)
    odds = f"a stake of 1 on that grew to {wealth:.0f}" if wealth < 1e6 else "a stake of 1 on that grew over a million"  # noqa: PLR2004 - long numbers are not read
    return f"{told}; {odds}, which a candidate as good as stable lets happen at most 1 time in {1 / rules.alpha:.0f}"


def promoted(rules: Rules, totals: Counts) -> str:
    """Why the candidate is good enough."""
    return (
        f"not worse over {totals.pairs} pairs: {_failures(totals)}, up by less than {_points(rules.error_margin)}; "
        f"{_accuracy(totals)}, down by less than {_points(rules.quality_margin)}"
    )


def undecided(rules: Rules, totals: Counts, rounds: int, missing: Mapping[str, float], reason: str) -> str:
    """What was not shown, and why not."""
    if not totals.pairs:
        return f"nothing was compared: {reason}"
    return f"{_obstacle(rules, totals, rounds, missing)} ({reason}): {_failures(totals)}; {_accuracy(totals)}"


def _obstacle(rules: Rules, totals: Counts, rounds: int, missing: Mapping[str, float]) -> str:
    if totals.stable_failed > _HEALTHY_ENOUGH * totals.pairs:
        return "stable itself failed, so there was nothing to compare with"
    if missing:
        held = ", ".join(f"{name} {max(wealth, 0):.1f}" for name, wealth in missing.items())
        return (
            f"neither worse nor shown to be good enough: evidence of {1 / rules.beta:.0f} is needed, {held} was found"
        )
    if rounds < rules.min_rounds:
        return f"good so far, but {rules.min_rounds} rounds are needed and {rounds} were played"
    return "the evidence contradicts itself: both worse and good enough were likely"


def _errors_lost(totals: Counts) -> str:
    alone = totals.only_candidate_failed + totals.only_stable_failed
    return (
        f"errors: {_failures(totals)} over {totals.pairs} pairs: of {alone} pairs where only one side failed, "
        f"{totals.only_candidate_failed} were the candidate's"
    )


def _quality_lost(totals: Counts) -> str:
    alone = totals.only_candidate_wrong + totals.only_stable_wrong
    return (
        f"{_accuracy(totals)}: of {alone} prompts where only one side was wrong, "
        f"{totals.only_candidate_wrong} were the candidate's"
    )


def _failures(totals: Counts) -> str:
    candidate, stable = totals.candidate_failed, totals.stable_failed
    return (
        f"{candidate} of {totals.pairs} requests failed ({_percent(candidate, totals.pairs)}) "
        f"against {stable} ({_percent(stable, totals.pairs)}) of stable"
    )


def _accuracy(totals: Counts) -> str:
    if not totals.graded:
        return "accuracy unknown: no prompt was graded on both sides"
    candidate, stable = totals.candidate_correct / totals.graded, totals.stable_correct / totals.graded
    return f"accuracy {candidate:.2f} against {stable:.2f} of stable over {totals.graded} pairs"


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %"


def _points(share: float) -> str:
    return f"{100 * share:g} percentage point" + ("" if share == 0.01 else "s")  # noqa: PLR2004 - one
