"""What the demo shows at its end: a table for people and ``var/demo.json`` for programs."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from devcluster.demo.clients import Tally
from devcluster.demo.first_tokens import Felt, felt

PARALLEL = ("stage_weights", "validate_rdma")
COMPARING = "evaluate_canary"


@dataclass(frozen=True)
class StepReport:
    """One step of one rollout, from the record."""

    step: str
    verdict: str
    began: float
    """Seconds since the epoch."""
    seconds: float


@dataclass(frozen=True)
class RolloutReport:
    """One rollout: how it should end, how it ended and why."""

    name: str
    expected: str
    ended: str
    reason: str
    seconds: float
    orchestration_seconds: float
    steps: tuple[StepReport, ...]
    problems: tuple[str, ...] = ()
    """What did not come out as the demo promises; empty when all is well."""


@dataclass(frozen=True)
class DemoReport:
    """All rollouts and what the clients saw."""

    rollouts: tuple[RolloutReport, ...]
    streams: Tally
    serving: str
    problems: tuple[str, ...] = field(default=())

    @property
    def passed(self) -> bool:
        """All rollouts ended as they should, no stream was dropped, and there were streams."""
        return not self.all_problems

    @property
    def all_problems(self) -> list[str]:
        """Every reason for which the demo has not passed."""
        problems = [f"{rollout.name}: {problem}" for rollout in self.rollouts for problem in rollout.problems]
        if self.streams.dropped:
            problems.append(
                f"{self.streams.dropped} of {self.streams.total} streams dropped: {self.streams.reasons[0]}"
            )
        if not self.streams.total:
            problems.append("no stream was made")
        return [*problems, *self.problems]

    @cached_property
    def felt(self) -> Felt:
        """What users felt of the comparisons."""
        steps = [step for rollout in self.rollouts for step in rollout.steps if step.step == COMPARING]
        return felt(self.streams.first_tokens, [(step.began, step.began + step.seconds) for step in steps])

    def as_json(self) -> dict[str, Any]:
        """The content of ``var/demo.json``."""
        return {
            "rollouts": [
                {
                    key: value
                    for key, value in asdict(rollout).items()
                    if key not in ("orchestration_seconds", "problems")
                }
                for rollout in self.rollouts
            ],
            "streams": {"total": self.streams.total, "dropped": self.streams.dropped},
            "ttft": {**asdict(self.felt), "p99_ratio": self.felt.p99_ratio},
            "orchestration_seconds": round(sum(r.orchestration_seconds for r in self.rollouts), 1),
            "serving": self.serving,
        }

    def write(self, path: Path) -> None:
        """Write the JSON, making the folder when missing."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.as_json(), indent=2) + "\n")

    def print(self, console: Console) -> None:
        """Print the table, what serves now and every problem."""
        table = Table("rollout", "step", "verdict", "seconds", title="What happened")
        for rollout in self.rollouts:
            for step in rollout.steps:
                table.add_row("", step.step, step.verdict, f"{step.seconds:.1f}")
            table.add_row(
                f"[bold]{rollout.name}", "", f"[bold]{rollout.ended}", f"[bold]{rollout.seconds:.1f}", end_section=True
            )
        console.print(table)
        for rollout in self.rollouts:
            console.print(f"[bold]{rollout.name}[/bold]: {rollout.reason}", highlight=False)
        seen = ", ".join(f"{count} answered by {text}" for text, count in sorted(self.streams.by_text.items()))
        console.print(f"Streams: {self.streams.total}, dropped: {self.streams.dropped} ({seen})")
        console.print(f"First token while a candidate was compared: {self.felt.compared}", highlight=False)
        console.print(f"First token at all other times: {self.felt.otherwise}", highlight=False)
        console.print(f"Orchestration: {sum(r.orchestration_seconds for r in self.rollouts):.1f} s in all")
        console.print(f"Serving now: {self.serving}")
        for problem in self.all_problems:
            console.print(f"[bold red]Not as it should be:[/] {problem}", highlight=False)


def orchestration_seconds(total_seconds: float, waited: dict[str, float]) -> float:
    """The part of a rollout that was not spent waiting for the cluster or a Job.

    The two steps that run side by side wait at the same time: the longer wait counts.
    """
    side_by_side = max((waited.get(step, 0.0) for step in PARALLEL), default=0.0)
    in_turn = sum(seconds for step, seconds in waited.items() if step not in PARALLEL)
    return max(0.0, total_seconds - side_by_side - in_turn)
