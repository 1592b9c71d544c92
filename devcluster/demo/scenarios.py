"""The four rollouts of the demo and how each has to end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from devcluster.demo.report import RolloutReport
from llm_rollout.record import RolloutResult

SLOW_LINK = ("node-1", "node-2")
"""The nodes that are free when the last rollout plans: the first upgrade moved stable to the other half."""
SLOW_GBPS = 120


@dataclass(frozen=True)
class Scenario:
    """One rollout: what is asked for, and what its end has to show."""

    name: str
    revision: str
    expected: str
    """``switched``, ``rolled_back`` (a candidate ran and was removed) or ``stopped`` (before any candidate ran)."""
    check: Callable[[RolloutResult], list[str]]
    """What is not as it should be in the record's entry, beyond the end itself."""
    slow_link: bool = False
    extra_args: tuple[str, ...] = ()
    """A changed server flag: the same weights become another revision."""


def switched(result: RolloutResult) -> list[str]:
    """Every step kept its promise."""
    return [f"{step.step} ended {step.verdict}" for step in result.steps if step.verdict != "done"]


def rolled_back_on_accuracy(result: RolloutResult) -> list[str]:
    """The canary named answer quality with its numbers."""
    cause = cause_at(result, "evaluate_canary")
    named = "answer" in cause or "accuracy" in cause
    return [] if named and any(letter.isdigit() for letter in cause) else [f"accuracy is not named: {cause!r}"]


def stopped_by_the_link(result: RolloutResult) -> list[str]:
    """The gate named both ends of the slow link, and no group was created."""
    cause = cause_at(result, "validate_rdma")
    problems = [f"{node} is not named: {cause!r}" for node in SLOW_LINK if node not in cause]
    step = result.step("validate_rdma")
    remedy = step.remedy if step else ""
    problems += [f"{node} is not in the remedy: {remedy!r}" for node in SLOW_LINK if node not in remedy]
    if any(step.step == "create_group" and step.verdict == "done" for step in result.steps):
        problems.append("a group was created on an unfit fabric")
    return problems


SCENARIOS = (
    Scenario("first deployment of v1", "v1", "switched", switched),
    Scenario("upgrade to v2", "v2", "switched", switched),
    Scenario("upgrade to v3, whose answers are worse", "v3", "rolled_back", rolled_back_on_accuracy),
    Scenario(
        "upgrade to v2 with another flag over a slow link",
        "v2",
        "stopped",
        stopped_by_the_link,
        slow_link=True,
        extra_args=("--max-num-seqs=128",),
    ),
)


def cause_at(result: RolloutResult, step: str) -> str:
    """The cause with which a step failed, empty when it did not."""
    return next((s.summary for s in result.steps if s.step == step and s.verdict == "fail"), "")


def ended(result: RolloutResult) -> str:
    """How a rollout ended, in the words of ``Scenario.expected``."""
    if result.outcome == "succeeded":
        return "switched"
    created = any(step.step == "create_group" and step.verdict == "done" for step in result.steps)
    undone = any(step.step == "roll_back" and step.verdict == "done" for step in result.steps)
    if not undone:
        return str(result.outcome or "unfinished")
    return "rolled_back" if created else "stopped"


def problems_of(scenario: Scenario, result: RolloutResult) -> tuple[str, ...]:
    """Everything that differs from what the scenario promises."""
    problems = [] if ended(result) == scenario.expected else [f"expected {scenario.expected}, ended {ended(result)}"]
    return (*problems, *scenario.check(result))


__all__ = ["SCENARIOS", "RolloutReport", "Scenario", "ended", "problems_of"]
