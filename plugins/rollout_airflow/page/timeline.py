"""The picture of a rollout: one segment a step, placed and sized in seconds. Pure geometry, no markup."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rollout_airflow.page.views import RolloutView, StepView

WIDTH = 960.0
"""Units across; the picture scales with the window."""
LANE = 22.0
"""Units from one lane to the next; steps that ran side by side lie in lanes of their own."""
BAR = 18.0
NARROWEST = 2.0
"""A step of no time is still seen and can be pointed at."""
CHARACTER = 6.2
"""Units that a letter of a label takes; a label that does not fit is left to the title."""
MARKS = {"failed": "\u2715 ", "at work": "\u2026 ", "stopped": "\u25a1 "}
"""Before a label, so that nobody has to tell colours apart."""
PAUSE_SECONDS = 60.0
"""A longer time in which no step was at work (an approval, a night before somebody cleared a task) is cut out."""


@dataclass(frozen=True)
class Segment:
    """One step. All places and sizes are in units of the picture."""

    step: StepView
    x: float
    y: float
    width: float
    work_width: float
    """The part that was not spent waiting for the cluster or a Job; it is drawn solid, the rest lighter."""
    label: str
    """"" where it does not fit."""


@dataclass(frozen=True)
class Pause:
    """Time that was cut out between two steps."""

    x: float
    seconds: float


@dataclass(frozen=True)
class Picture:
    """One rollout."""

    segments: tuple[Segment, ...]
    pauses: tuple[Pause, ...]
    height: float


@dataclass(frozen=True)
class _Placed:
    step: StepView
    offset_seconds: float
    lane: int


def pictures(rollouts: Sequence[RolloutView]) -> tuple[Picture, ...]:
    """One picture a rollout, all to the same scale: the longest takes the whole width."""
    longest = max((shown_seconds(one.steps) for one in rollouts), default=0.0)
    scale = WIDTH / longest if longest > 0 else 0.0
    return tuple(_picture(one.steps, scale) for one in rollouts)


def shown_seconds(steps: Sequence[StepView]) -> float:
    """How many seconds the picture shows: from the first step to the end of the last, without the pauses."""
    return max((one.offset_seconds + one.step.seconds for one in _placed(steps)[0]), default=0.0)


def _picture(steps: Sequence[StepView], scale: float) -> Picture:
    placed, pauses = _placed(steps)
    lanes = max((one.lane for one in placed), default=0) + 1
    return Picture(
        tuple(_segment(one, scale) for one in placed),
        tuple(Pause(round(at * scale, 1), seconds) for at, seconds in pauses),
        lanes * LANE,
    )


def _segment(placed: _Placed, scale: float) -> Segment:
    step = placed.step
    width = max(step.seconds * scale, NARROWEST)
    work = width if step.seconds <= 0 else width * (1 - step.waited_seconds / step.seconds)
    x = min(placed.offset_seconds * scale, WIDTH - width)
    label = MARKS.get(step.state, "") + step.step
    label = label if len(label) * CHARACTER <= width else ""
    return Segment(step, round(x, 1), placed.lane * LANE, round(width, 1), round(work, 1), label)


def _placed(steps: Sequence[StepView]) -> tuple[list[_Placed], list[tuple[float, float]]]:
    """Where each step begins once the pauses are cut out, and the pauses as (where, how long)."""
    placed: list[_Placed] = []
    pauses: list[tuple[float, float]] = []
    lanes: list[float] = []
    busy_until = cut = None
    for step in sorted(steps, key=lambda one: one.started):
        if busy_until is None or cut is None:
            busy_until, cut = step.started, step.started
        if step.started - busy_until > PAUSE_SECONDS:
            pauses.append((busy_until - cut, step.started - busy_until))
            cut += step.started - busy_until
        lane = next((number for number, until in enumerate(lanes) if until <= step.started), len(lanes))
        lanes[lane : lane + 1] = [step.started + step.seconds]
        placed.append(_Placed(step, step.started - cut, lane))
        busy_until = max(busy_until, step.started + step.seconds)
    return placed, pauses
