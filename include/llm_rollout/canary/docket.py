"""Many comparisons at once: each rollout's rounds as they are delivered, out of order among rollouts, some twice."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from llm_rollout.canary.judge import Judge, Standing
from llm_rollout.canary.rounds import Pair
from llm_rollout.canary.rules import Rules


class Numbers:
    """A set of numbers, kept as ranges: numbered in order they take the space of one."""

    def __init__(self) -> None:
        """Without any."""
        self._starts: list[int] = []
        self._ends: list[int] = []

    def add(self, number: int) -> bool:
        """Whether it is new."""
        at = bisect_right(self._starts, number)
        if at and number <= self._ends[at - 1]:
            return False
        after_last = at > 0 and self._ends[at - 1] == number - 1
        before_next = at < len(self._starts) and self._starts[at] == number + 1
        if after_last and before_next:
            self._ends[at - 1] = self._ends.pop(at)
            del self._starts[at]
        elif after_last:
            self._ends[at - 1] = number
        elif before_next:
            self._starts[at] = number
        else:
            self._starts.insert(at, number)
            self._ends.insert(at, number)
        return True


@dataclass
class _Case:
    standing: Standing
    rounds: int = 0
    numbers: Numbers = field(default_factory=Numbers)
    last: dict[str, Any] = field(default_factory=dict)


class Docket:
    """Judges every rollout alone."""

    def __init__(self, rules: Rules) -> None:
        """By the same rules for all."""
        self._rules, self._judge = rules, Judge(rules)
        self._cases: dict[str, _Case] = {}

    def hear(self, rollout: str, number: int | None, pairs: Sequence[Pair]) -> dict[str, Any]:
        """The decision after a round; the last one again for a number that was heard before."""
        case = self._cases.get(rollout)
        if case is None:
            case = self._cases[rollout] = _Case(self._judge.begin())
        if number is not None and not case.numbers.add(number) and case.last:
            return case.last
        case.rounds += 1
        before = case.standing
        case.standing = self._judge.after(before, pairs)
        if case.last and case.standing.rounds == before.rounds and case.standing.decision == before.decision:
            case.last = {**case.last, "round": case.rounds}
        else:
            case.last = self._said(rollout, case)
        return case.last

    def _said(self, rollout: str, case: _Case) -> dict[str, Any]:
        decision, evidence = case.standing.decision, self._judge.evidence(case.standing)
        wealth = sum(self._rules.weight(name) * worse for name, (worse, _) in evidence.items())
        return {
            "rollout": rollout,
            "round": case.rounds,
            "decision": decision.outcome,
            "metric": decision.metric,
            "evidence": {
                "wealth": short(wealth),
                "worse": {name: short(worse) for name, (worse, _) in evidence.items()},
                "not_worse": {name: short(held) for name, (_, held) in evidence.items()},
            },
            "sentence": decision.sentence or self._judge.so_far(case.standing),
        }


def short(number: float) -> float:
    """Three digits: wealth is looked at, not calculated with."""
    return float(f"{number:.3g}")
