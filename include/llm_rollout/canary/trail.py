"""How the pots went: their wealth after each round, few enough points to be kept, and the picture of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

from llm_rollout.canary import chart
from llm_rollout.canary.chart import Panel
from llm_rollout.canary.judge import Judge, Standing
from llm_rollout.canary.rules import Rules

MOST_POINTS = 40
"""Of longer comparisons every second round is kept, then every fourth and so on, and always the latest."""
_One = TypeVar("_One")
Wealth = Mapping[str, tuple[float, ...]]


@dataclass(frozen=True)
class Trail:
    """The wealth of every required metric's bets at the ``points`` of ``rounds``, and of those on "worse" together."""

    rounds: int = 0
    together: tuple[float, ...] = ()
    worse: Wealth = field(default_factory=dict)
    not_worse: Wealth = field(default_factory=dict)

    def after(self, rules: Rules, standing: Standing) -> Self:
        """With one point more, of the round that ``standing`` is after."""
        judge, number = Judge(rules), self.rounds + 1

        def longer(before: Sequence[float], value: float) -> tuple[float, ...]:
            return thinned(before, float(f"{value:.2g}"), number)

        held = {name: pots for name, pots in judge.evidence(standing).items() if name in rules.required}
        return type(self)(
            number,
            longer(self.together, judge.wealth(standing)),
            {name: longer(self.worse.get(name, ()), worse) for name, (worse, _) in held.items()},
            {name: longer(self.not_worse.get(name, ()), not_worse) for name, (_, not_worse) in held.items()},
        )

    def as_json(self) -> dict[str, Any]:
        """Plain values; ``from_json`` reads them back."""
        pots = {"together": self.together, "worse": self.worse, "not_worse": self.not_worse}
        return {"rounds": points(self.rounds), **pots}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """The trail that ``as_json`` wrote."""
        worse, not_worse = (_tuples(value[key]) for key in ("worse", "not_worse"))
        return cls(max(value["rounds"], default=0), tuple(value["together"]), worse, not_worse)

    def draw(self, alpha: float, beta: float, rounds_are: str) -> str:
        """An SVG picture: above what was staked on "worse", below what was staked on "not worse by the margin"."""
        worse = {**self.worse, "together": self.together}
        panels = [
            worse_panel("The candidate is worse", worse, alpha),
            Panel("It is not worse by the margin", self.not_worse, {"promote when each is at": 1 / beta}),
        ]
        return chart.draw(panels, points(self.rounds), rounds_are)


def worse_panel(title: str, pots: Mapping[str, Sequence[float]], alpha: float) -> Panel:
    """What was staked on "worse", and the wealth that rolls back."""
    return Panel(title, pots, {"roll back when together at": 1 / alpha})


def points(rounds: int) -> list[int]:
    """Which rounds of so many are kept."""
    every = 1
    while rounds // every > MOST_POINTS:
        every *= 2
    return [number for number in range(1, rounds + 1) if number % every == 0 or number == rounds]


def thinned(before: Sequence[_One], latest: _One, rounds: int) -> tuple[_One, ...]:
    """What was kept of the rounds before the latest, the latest added and what is not kept any more left out."""
    kept = set(points(rounds))
    return (*(one for number, one in zip(points(rounds - 1), before, strict=False) if number in kept), latest)


def _tuples(pots: Mapping[str, Sequence[float]]) -> Wealth:
    return {name: tuple(values) for name, values in pots.items()}
