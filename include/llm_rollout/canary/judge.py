"""Rounds in, a decision out after every round. What it remembers is a ``Standing``: small, and JSON both ways."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from llm_rollout.canary import sentences
from llm_rollout.canary.bets import Pot
from llm_rollout.canary.error_rate import ErrorRate
from llm_rollout.canary.quality import Quality
from llm_rollout.canary.rounds import Answer, Counts, Pair, count
from llm_rollout.canary.rules import Rules

Outcome = Literal["continue", "promote", "rollback", "undecided"]

_QUIET = 2.0
"""No promotion while the bets that the candidate is worse hold so much: the evidence contradicts itself."""


@dataclass(frozen=True)
class Decision:
    """What the judge says after a round."""

    outcome: Outcome = "continue"
    metric: str | None = None
    """What the candidate is worse in; None unless it is rolled back."""
    sentence: str = ""
    """Why, with counts, for a person."""


@dataclass(frozen=True)
class Standing:
    """All that the judge carries from round to round."""

    rounds: int = 0
    totals: Counts = field(default_factory=Counts)
    pots: Mapping[str, Mapping[str, Pot]] = field(default_factory=dict)
    waiting: tuple[Pair, ...] = ()
    """Pairs of rounds that are too small to be bet on yet."""
    decision: Decision = field(default_factory=Decision)

    def as_json(self) -> dict[str, Any]:
        """Plain values; ``from_json`` reads them back."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Standing:
        """The standing that ``as_json`` wrote."""
        pots = {metric: {name: tuple(pot) for name, pot in of.items()} for metric, of in value["pots"].items()}
        waiting = tuple(Pair(Answer(**pair["stable"]), Answer(**pair["candidate"])) for pair in value["waiting"])
        return cls(value["rounds"], Counts(**value["totals"]), pots, waiting, Decision(**value["decision"]))


class Judge:
    """Decides by the same rules for any number of comparisons."""

    def __init__(self, rules: Rules) -> None:
        """Hold on to the rules."""
        self._rules = rules
        self._metrics = (ErrorRate(rules), Quality(rules))

    def begin(self) -> Standing:
        """Before the first round."""
        return Standing(pots={metric.name: metric.new() for metric in self._metrics})

    def after(self, standing: Standing, pairs: Sequence[Pair]) -> Standing:
        """Where things stand after these pairs. A decision that was reached stays, whatever comes later.

        Stopping at any time, pausing and going on keep what alpha and beta promise; beginning anew does not.
        """
        if standing.decision.outcome != "continue":
            return standing
        waiting = (*standing.waiting, *pairs)
        capped = standing.totals.pairs + len(waiting) >= self._rules.max_pairs
        if len(waiting) < self._rules.round_pairs and not capped:
            return replace(standing, waiting=waiting)
        played = self._play(standing, count(waiting))
        return replace(played, decision=self._decide(played))

    def close(self, standing: Standing, reason: str) -> Standing:
        """End a comparison that cannot go on: undecided, unless it was decided."""
        if standing.decision.outcome != "continue":
            return standing
        return replace(standing, decision=self._undecided(standing, reason))

    def wealth(self, standing: Standing) -> float:
        """What the bets that the candidate is worse hold together."""
        return sum(self._rules.weight(name) * worse for name, (worse, _) in self.evidence(standing).items())

    def evidence(self, standing: Standing) -> dict[str, tuple[float, float]]:
        """For each metric the wealth of "worse" and of "not worse by the margin"; each began at 1."""
        return {
            each.name: (
                each.worse(standing.pots[each.name], standing.totals),
                each.not_worse(standing.pots[each.name], standing.totals),
            )
            for each in self._metrics
        }

    def _play(self, standing: Standing, seen: Counts) -> Standing:
        pots = {each.name: each.after(standing.pots[each.name], seen) for each in self._metrics}
        return Standing(standing.rounds + 1, standing.totals + seen, pots)

    def _decide(self, standing: Standing) -> Decision:
        rules, evidence, wealth = self._rules, self.evidence(standing), self.wealth(standing)
        if wealth >= 1 / rules.alpha:
            metric = max(evidence, key=lambda name: rules.weight(name) * evidence[name][0])
            return Decision("rollback", metric, sentences.rolled_back(rules, standing.totals, metric, wealth))
        proven = all(not_worse >= 1 / rules.beta for _, not_worse in evidence.values())
        if proven and wealth < _QUIET and standing.rounds >= rules.min_rounds:
            return Decision("promote", None, sentences.promoted(rules, standing.totals))
        if standing.totals.pairs >= rules.max_pairs:
            return self._undecided(standing, f"canary.max_pairs is {rules.max_pairs}")
        return Decision()

    def _undecided(self, standing: Standing, reason: str) -> Decision:
        missing = {name: held for name, (_, held) in self.evidence(standing).items() if held < 1 / self._rules.beta}
        sentence = sentences.undecided(self._rules, standing.totals, standing.rounds, missing, reason)
        return Decision("undecided", None, sentence)
