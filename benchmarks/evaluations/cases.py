"""What may be the matter with a candidate or with stable, and how a comparison has to end then."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.evaluations import processes
from benchmarks.evaluations.arena import Judged, Model, Serving
from llm_rollout.rollout import RolloutPlan

PROMOTE, ROLLBACK, UNDECIDED, UNMEASURED = "promote", "rollback", "undecided", "unmeasured"

TTFT_SECONDS, STEP_SECONDS = 0.3, 0.02
"""What first tokens and steps take on both sides. Waiting, not computing, so that two cores are enough to compare."""
_SLOWER = 1.1
STABLE, CANDIDATE = "stable", "candidate"


@dataclass(frozen=True)
class Scene:
    """A comparison that runs or is about to."""

    model: Model
    plan: RolloutPlan

    def commit(self, side: str) -> str:
        """What a side serves."""
        return self.plan.commit if side == CANDIDATE else self.model.serving_commit()

    def lws(self, side: str) -> str:
        """The LeaderWorkerSet of a side."""
        return self.plan.lws if side == CANDIDATE else str(self.plan.stable_lws)


Strike = Callable[[Scene], None]


def dies(*sides: str) -> Strike:
    """Leaders are killed, and whatever starts in their place dies at once."""

    def strike(scene: Scene) -> None:
        for side in sides:
            scene.model.break_for_good(scene.lws(side))
        for side in sides:
            processes.kill(processes.leaders(scene.model.layout, scene.commit(side)))

    return strike


def falls_silent(*sides: str) -> Strike:
    """Leaders stand still and answer nothing; what the cluster, out of patience, starts in their place dies at once."""

    def strike(scene: Scene) -> None:
        for side in sides:
            scene.model.break_for_good(scene.lws(side))
            processes.stop(processes.leaders(scene.model.layout, scene.commit(side)))

    return strike


def serving(weights: str = "v1", **env: object) -> Serving:
    """A side that is as usual but for these variables, without their prefix."""
    usual: dict[str, object] = {"TTFT_DELAY_SECONDS": TTFT_SECONDS, "STEP_SECONDS": STEP_SECONDS}
    return Serving({f"STANDIN_{name}": str(value) for name, value in (usual | env).items()}, weights)


@dataclass(frozen=True)
class Case:
    """One row."""

    ends: tuple[str, ...]
    """The right ones."""
    metrics: tuple[str, ...] = ()
    """Those that a roll back may name."""
    candidate: Serving = field(default_factory=serving)
    strike: Strike | None = None
    strike_at_pairs: int = 0
    """None compared yet: before the Job starts."""
    strikes_stable: bool = False
    canary: Mapping[str, Any] = field(default_factory=dict)
    """Of the spec, beside the defaults."""
    runs: int = 3

    def is_right(self, judged: Judged) -> bool:
        """Whether a comparison ended as it has to."""
        return judged.end in self.ends and (judged.end != ROLLBACK or judged.metric in self.metrics)


def struck(strike: Callable[..., Strike], *sides: str, at_pairs: int, ends: tuple[str, ...]) -> Case:
    """Something that happens to sides for good, in a comparison that must not wait an hour for them."""
    held = STABLE in sides
    return Case(
        ends, ("errors",), strike=strike(*sides), strike_at_pairs=at_pairs, strikes_stable=held,
        canary={"deadline_seconds": 150 if held else 300}, runs=2 if held else 3,
    )  # fmt: skip


AS_GOOD = "A/A"
_MIDDLE = 300
_HELD = (UNDECIDED, UNMEASURED)

CASES: Mapping[str, Case] = {
    AS_GOOD: Case((PROMOTE, UNDECIDED), runs=20),
    "errors 2 %": Case((ROLLBACK,), ("errors",), serving(ERROR_RATE=0.02)),
    "TTFT +10 %": Case((ROLLBACK,), ("ttft",), serving(TTFT_DELAY_SECONDS=_SLOWER * TTFT_SECONDS, TTFT_FACTOR=_SLOWER)),
    "3 % of requests stall": Case((ROLLBACK,), ("errors", "tail"), serving(STALL_RATE=0.03)),
    "accuracy 10 points less": Case((ROLLBACK,), ("quality",), serving("worse")),
    "candidate dies": struck(dies, CANDIDATE, at_pairs=_MIDDLE, ends=(ROLLBACK,)),
    "candidate falls silent": struck(falls_silent, CANDIDATE, at_pairs=_MIDDLE, ends=(ROLLBACK,)),
    "stable dies": struck(dies, STABLE, at_pairs=_MIDDLE, ends=_HELD),
    "stable falls silent": struck(falls_silent, STABLE, at_pairs=_MIDDLE, ends=_HELD),
    "both die": struck(dies, STABLE, CANDIDATE, at_pairs=_MIDDLE, ends=_HELD),
    "both fall silent": struck(falls_silent, STABLE, CANDIDATE, at_pairs=_MIDDLE, ends=_HELD),
    "stable refuses from the start": struck(dies, STABLE, at_pairs=0, ends=_HELD),
    "both refuse from the start": struck(dies, STABLE, CANDIDATE, at_pairs=0, ends=_HELD),
    "both never answer": struck(falls_silent, STABLE, CANDIDATE, at_pairs=0, ends=_HELD),
}
