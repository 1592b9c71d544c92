"""A decision in one sentence with its counts: what a person reads first, at night, without the evidence beside it."""

from __future__ import annotations

from collections.abc import Mapping
from math import exp
from typing import TYPE_CHECKING

from llm_rollout.canary.rounds import Counts
from llm_rollout.canary.rules import Rules
from llm_rollout.canary.timings import Slower, Timings

if TYPE_CHECKING:
    from llm_rollout.canary.judge import Standing

_HEALTHY_ENOUGH = 0.5


def rolled_back(rules: Rules, standing: Standing, metric: str, wealth: float) -> str:
    """Why the candidate is worse."""
    odds = f"a stake of 1 on that grew to {wealth:.0f}" if wealth < 1e6 else "a stake of 1 on that grew over a million"  # noqa: PLR2004 - long numbers are not read
    told = _lost(metric, standing.totals, standing.timings)
    return f"{told}; {odds}, which a candidate as good as stable lets happen at most 1 time in {1 / rules.alpha:.0f}"


def promoted(rules: Rules, standing: Standing) -> str:
    """Why the candidate is good enough."""
    totals, margin = standing.totals, rules.margin
    parts = [f"{_failures(totals)}, up by less than {_points(margin['errors'])}"]
    if "ttft" in rules.required:
        parts.append(f"{_slower('TTFT', standing.timings.ttft)}, {100 * (margin['ttft'] - 1):.0f} % ruled out")
    if "itl" in rules.required:
        told = _slower("time between tokens", standing.timings.itl)
        parts.append(f"{told}, {100 * (margin['itl'] - 1):.0f} % ruled out")
    if "quality" in rules.required:
        parts.append(f"{_accuracy(totals)}, down by less than {_points(margin['quality'])}")
    return f"not worse over {totals.pairs} pairs: {'; '.join(parts)}"


def going_on(rules: Rules, standing: Standing, missing: Mapping[str, float]) -> str:
    """What is known so far and what is not."""
    totals = standing.totals
    if not totals.pairs:
        return f"fewer than {rules.round_pairs} pairs so far"
    return f"after {totals.pairs} pairs {_obstacle(rules, totals, standing.rounds, missing)}: {_failures(totals)}"


def undecided(rules: Rules, standing: Standing, missing: Mapping[str, float], reason: str) -> str:
    """What was not shown, and why not."""
    totals = standing.totals
    if not totals.pairs:
        return f"nothing was compared: {reason}"
    told = f"{_failures(totals)}; {_accuracy(totals)}"
    return f"{_obstacle(rules, totals, standing.rounds, missing)} ({reason}): {told}"


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


def _lost(metric: str, totals: Counts, timings: Timings) -> str:
    if metric == "quality":
        return _quality_lost(totals)
    if metric == "ttft":
        return f"ttft: {_slower('TTFT', timings.ttft)}"
    if metric == "tail":
        return (
            f"tail: the candidate took at least twice as long to the first token in {timings.candidate_slow} "
            f"of {timings.ttft.pairs} pairs, stable in {timings.stable_slow}"
        )
    if metric == "itl":
        return f"itl: {_slower('time between tokens', timings.itl)}"
    if metric == "throughput":
        return f"throughput: {_slower('time of a request by token', timings.throughput)}"
    return _errors_lost(totals)


def _slower(what: str, seen: Slower) -> str:
    if not seen.pairs:
        return f"{what} unknown after the warm-up"
    change = 100 * (exp(seen.log_ratio / seen.pairs) - 1)
    return f"{what} {change:+.1f} %, longer than stable's in {seen.longer} of {seen.pairs} pairs"


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
