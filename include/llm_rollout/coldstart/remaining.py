"""How long a start will still take, from its own rate and from an earlier start of the same model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llm_rollout.coldstart.stalls import Expected
from llm_rollout.coldstart.starting import Rank
from llm_rollout.coldstart.words import PHASES


@dataclass(frozen=True)
class Estimate:
    """What can be said; None where nothing tells."""

    percent: float | None = None
    """Of the weights."""
    bytes_per_second: float | None = None
    """At which the weights are read."""
    seconds_left: float | None = None
    """Until it serves, from the last sign of progress on."""

    def as_json(self) -> dict[str, float]:
        """Without what is not known."""
        known = {
            "percent": self.percent, "bytes_per_second": self.bytes_per_second, "seconds_left": self.seconds_left,
        }  # fmt: skip
        return {name: round(value, 1) for name, value in known.items() if value is not None}


def estimate(slow: Sequence[Rank], expected: Expected) -> Estimate:
    """For a start whose slowest group is the one that ends last. ``slow``: of each group the rank furthest behind."""
    if not slow:
        return Estimate()
    rank = min(slow, key=lambda one: (PHASES.index(one.phase), one.percent or 0.0))
    elapsed, percent = max(0.0, rank.moved - rank.began), rank.percent
    later = [
        expected.durations[phase] for phase in PHASES[PHASES.index(rank.phase) + 1 :] if phase in expected.durations
    ]
    own: float | None = None
    if percent and elapsed:
        own = elapsed * (100 - percent) / percent
    elif rank.phase in expected.durations:
        own = max(0.0, expected.durations[rank.phase] - elapsed)
    left = None if own is None else own + sum(later)
    loading = rank.phase == "weights"
    rate = expected.weights_bytes * percent / 100 / elapsed if loading and percent and elapsed else None
    return Estimate(percent if loading else None, rate, left)
