"""Rounds in, a decision out after every round. What it remembers is a ``Standing``: small, and JSON both ways."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

from llm_rollout.canary import sentences
from llm_rollout.canary.error_rate import ErrorRate
from llm_rollout.canary.location import Location
from llm_rollout.canary.quality import Quality
from llm_rollout.canary.rounds import Counts, Pair, count
from llm_rollout.canary.rules import Rules
from llm_rollout.canary.tail import Tail
from llm_rollout.canary.times import Seen, measure
from llm_rollout.canary.timings import Timings

Outcome = Literal["continue", "promote", "rollback", "undecided"]
Evidence = Mapping[str, tuple[float, float]]

_QUIET = 1.0
"""No promotion while the bets that the candidate is worse hold so much: the evidence contradicts itself."""
_SHIFTED = 5.0
_TIMED = ("ttft", "tail", "itl")
_TIMED_SHARE = 0.5
"""Of the pairs, to have times: a promotion that takes times takes them from most requests."""


class _Metric(Protocol):
    @property
    def name(self) -> str: ...

    def new(self) -> dict[str, Any]: ...
    def after(self, pots: Mapping[str, Any], seen: Seen) -> dict[str, Any]: ...
    def worse(self, pots: Mapping[str, Any], totals: Counts) -> float: ...
    def not_worse(self, pots: Mapping[str, Any], totals: Counts) -> float: ...


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
    """All that the judge carries from round to round; ``standing_json`` writes and reads it."""

    rounds: int = 0
    totals: Counts = field(default_factory=Counts)
    timings: Timings = field(default_factory=Timings)
    pots: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    waiting: tuple[Pair, ...] = ()
    """Pairs of rounds that are too small to be bet on yet."""
    decision: Decision = field(default_factory=Decision)
    stable_was_well: bool = True
    """In the latest round."""


class Judge:
    """Decides by the same rules for any number of comparisons."""

    def __init__(self, rules: Rules) -> None:
        """Hold on to the rules."""
        self._rules = rules
        self._metrics: tuple[_Metric, ...] = (
            ErrorRate(rules),
            Location(rules, "ttft", lambda times: times.ttft, has_fast=True),
            Tail(rules),
            Location(rules, "itl", lambda times: times.itl),
            Location(rules, "throughput", lambda times: times.throughput),
            Quality(rules),
        )
        self._valued: tuple[Mapping[str, Any], Evidence] | None = None

    def begin(self) -> Standing:
        """Before the first round."""
        return Standing(pots={metric.name: metric.new() for metric in self._metrics})

    def after(self, standing: Standing, pairs: Sequence[Pair]) -> Standing:
        """Where things stand after these pairs. A decision that was reached stays, whatever comes later.

        Pairs are judged in rounds of ``round_pairs``, however many come at once, and none beyond ``cap_pairs``.
        Stopping at any time, pausing and going on keep what alpha and beta promise; beginning anew does not.
        """
        waiting, start = (*standing.waiting, *pairs), 0
        while standing.decision.outcome == "continue":
            end = start + min(self._rules.round_pairs, self._rules.cap_pairs - standing.totals.pairs)
            if len(waiting) < end:
                return replace(standing, waiting=waiting[start:])
            played = self._play(standing, waiting[start:end])
            standing, start = replace(played, decision=self._decide(played)), end
        return standing

    def close(self, standing: Standing, reason: str) -> Standing:
        """End a comparison that cannot go on: undecided, unless it was decided."""
        if standing.decision.outcome != "continue":
            return standing
        return replace(standing, decision=self._undecided(standing, reason))

    def wealth(self, standing: Standing) -> float:
        """What the bets that the candidate is worse hold together."""
        return sum(self._rules.weight(name) * worse for name, (worse, _) in self.evidence(standing).items())

    def evidence(self, standing: Standing) -> Evidence:
        """For each metric the wealth of "worse" and of "not worse by the margin"; each began at 1."""
        pots, totals = standing.pots, standing.totals
        # It is asked for several times after each round, for the decision and for what is said of it.
        if self._valued is None or self._valued[0] is not pots:
            found = {
                each.name: (each.worse(pots[each.name], totals), each.not_worse(pots[each.name], totals))
                for each in self._metrics
            }
            self._valued = pots, found
        return self._valued[1]

    def so_far(self, standing: Standing) -> str:
        """Why it goes on, in one sentence."""
        evidence = self.evidence(standing)
        missing = {name: evidence[name][1] for name in self._missing(standing, evidence)}
        return sentences.going_on(self._rules, standing, missing)

    def _play(self, standing: Standing, pairs: Sequence[Pair]) -> Standing:
        counts, cold = count(pairs), max(0, self._rules.warmup_pairs - standing.totals.pairs)
        well = counts.stable_failed <= self._rules.sick_share * counts.pairs
        first, times = measure(pairs[:cold]), measure(pairs[cold:])
        # Of many sick rounds a few look well, those in which stable had luck: one alone is not heard.
        seen = Seen(counts, times, first, well and standing.stable_was_well)
        pots = {each.name: each.after(standing.pots[each.name], seen) for each in self._metrics}
        timings = standing.timings.after(times, len(first.ttft))
        return Standing(standing.rounds + 1, standing.totals + counts, timings, pots, stable_was_well=well)

    def _decide(self, standing: Standing) -> Decision:
        rules, evidence = self._rules, self.evidence(standing)
        wealth = sum(rules.weight(name) * worse for name, (worse, _) in evidence.items())
        if wealth >= 1 / rules.alpha:
            metric = self._to_name(evidence)
            return Decision("rollback", metric, sentences.rolled_back(rules, standing, metric, wealth))
        proven = not any(self._missing(standing, evidence))
        if proven and wealth < _QUIET and standing.rounds >= rules.min_rounds:
            return Decision("promote", None, sentences.promoted(rules, standing))
        if standing.totals.pairs >= rules.cap_pairs:
            return self._undecided(standing, f"the cap is {rules.cap_pairs} pairs")
        return Decision()

    def _to_name(self, evidence: Evidence) -> str:
        """What contributed most. Where all requests are slower, so are the slowest: no matter of the tail."""
        metric = max(evidence, key=lambda name: self._rules.weight(name) * evidence[name][0])
        return "ttft" if metric == "tail" and evidence["ttft"][0] > _SHIFTED else metric

    def _missing(self, standing: Standing, evidence: Evidence) -> Iterator[str]:
        """What a promotion takes and has not."""
        few_times = standing.timings.ttft_seen < _TIMED_SHARE * standing.totals.pairs
        for name in self._rules.required:
            if evidence[name][1] < 1 / self._rules.beta or (few_times and name in _TIMED):
                yield name

    def _undecided(self, standing: Standing, reason: str) -> Decision:
        evidence = self.evidence(standing)
        missing = {name: evidence[name][1] for name in self._missing(standing, evidence)}
        return Decision("undecided", None, sentences.undecided(self._rules, standing, missing, reason))
