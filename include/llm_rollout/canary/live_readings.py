"""A vLLM server's counters as its ``/metrics`` has them at one moment, and what happened between two of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

_SERIES = re.compile(r"^vllm:(?P<name>\w+)\{(?P<labels>.*)\}\s+(?P<value>\S+)")
_REASON = re.compile(r'finished_reason="(\w+)"')
_BOUND = re.compile(r'le="([^"]+)"')
_BUCKETS = {"time_to_first_token_seconds_bucket": "ttft", "inter_token_latency_seconds_bucket": "itl"}
_SUMS = {"time_to_first_token_seconds_sum": "ttft", "inter_token_latency_seconds_sum": "itl"}
_ALL = "+Inf"


@dataclass(frozen=True)
class Times:
    """A histogram of times."""

    kept: Mapping[str, int] = field(default_factory=dict)
    """How many kept each bound, by the bound in seconds as ``le`` writes it."""
    seconds: float = 0.0
    """Their sum."""

    @property
    def count(self) -> int:
        """How many there are."""
        return self.kept.get(_ALL, 0)

    @property
    def bounds(self) -> tuple[str, ...]:
        """All but infinity, in order."""
        return tuple(sorted(self.kept.keys() - {_ALL}, key=float))

    def since(self, before: Times) -> Times:
        """What came after an earlier reading."""
        kept = {bound: max(count - before.kept.get(bound, 0), 0) for bound, count in self.kept.items()}
        return Times(kept, max(self.seconds - before.seconds, 0.0))

    def __add__(self, other: Times) -> Times:
        """Both together; bounds that only one side has are dropped, since the other's times are not known by them."""
        shared = self.kept.keys() & other.kept.keys() if self.kept and other.kept else {**self.kept, **other.kept}
        kept = {bound: self.kept.get(bound, 0) + other.kept.get(bound, 0) for bound in shared}
        return Times(kept, self.seconds + other.seconds)


@dataclass(frozen=True)
class Reading:
    """Everything since the server's start."""

    finished: int = 0
    """Requests that ended by themselves: one that a client broke off says nothing of the server."""
    errors: int = 0
    ttft: Times = Times()
    """Times to the first token."""
    itl: Times = Times()
    """Times between two tokens."""

    def times(self, metric: str) -> Times:
        """Those of ``ttft`` or ``itl``."""
        return self.ttft if metric == "ttft" else self.itl

    def since(self, before: Reading | None) -> Reading:
        """What happened after an earlier reading; a counter that went back began again at zero with its server."""
        if before is None or self.finished < before.finished or self.ttft.count < before.ttft.count:
            return self
        return Reading(
            self.finished - before.finished,
            max(self.errors - before.errors, 0),
            self.ttft.since(before.ttft),
            self.itl.since(before.itl),
        )

    def __add__(self, other: Reading) -> Reading:
        """Both together."""
        return Reading(
            self.finished + other.finished, self.errors + other.errors, self.ttft + other.ttft, self.itl + other.itl
        )


def total_since(before: Mapping[str, Reading], now: Mapping[str, Reading]) -> Reading:
    """What happened at all servers after an earlier reading of each; one that is new counts from its start."""
    return sum((reading.since(before.get(name)) for name, reading in now.items()), Reading())


def parse(text: str) -> Reading:
    """The sums over the engines of one server; series that it does not have count as zero."""
    ended: dict[str, int] = {}
    kept: dict[str, dict[str, int]] = {"ttft": {}, "itl": {}}
    sums = {"ttft": 0.0, "itl": 0.0}
    for match in filter(None, map(_SERIES.match, text.splitlines())):
        name, value = match["name"], float(match["value"])
        reason, bound = _REASON.search(match["labels"]), _BOUND.search(match["labels"])
        if name == "request_success_total" and reason:
            ended[reason[1]] = ended.get(reason[1], 0) + int(value)
        elif name in _BUCKETS and bound:
            counts = kept[_BUCKETS[name]]
            counts[bound[1]] = counts.get(bound[1], 0) + int(value)
        elif name in _SUMS:
            sums[_SUMS[name]] += value
    ttft, itl = Times(kept["ttft"], sums["ttft"]), Times(kept["itl"], sums["itl"])
    return Reading(sum(ended.values()) - ended.get("abort", 0), ended.get("error", 0), ttft, itl)
