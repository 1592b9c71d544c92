"""Whether the candidate does as well as stable on the share of live requests that it gets: windows and the judge.

The judge is the canary's, on what both revisions' own metrics say of the same windows (``canary.both_sides``). It goes
on from step to step, so that it has one chance to be wrong and not one for each step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from llm_rollout.canary import both_sides, chart, standing_json, trail
from llm_rollout.canary.judge import Judge, Standing
from llm_rollout.canary.live_readings import Reading, total_since
from llm_rollout.ports import Ports
from llm_rollout.rollout import Rollout
from llm_rollout.spec import Shift
from llm_rollout.steps import kept_files, live_metrics, shift_journal
from llm_rollout.steps.group_state import GroupState
from llm_rollout.steps.shift_journal import Entry, Journal
from llm_rollout.verdict import Act, Fail, Verdict, Wait

WINDOWS_A_STEP = 4
LONGEST_WINDOW_SECONDS = 30.0
_QUIET = 1.0
"""No further step while the bets that the candidate is worse hold more together: they began with it."""
_DOUBT = 2.0
"""Nor while those on one metric hold so much, whatever the others lost: one round can almost double them."""

_EVEN = 50
"""Percent. With more than stable has, which a person may set by hand, the candidate is slower for that alone."""

Readings = Mapping[str, Reading]


@dataclass(frozen=True)
class Judged:
    """What the judge has to go on."""

    journal: Journal = field(default_factory=Journal)
    stable: Readings | None = None
    """Each leader's counters; None when they could not be read."""
    candidate: Readings | None = None


@dataclass(frozen=True)
class Note:
    """Write down where the judgement stands."""

    rollout: Rollout
    journal: Journal
    entry: Entry


def observe(rollout: Rollout, ports: Ports, candidate: GroupState) -> Judged:
    """Read the journal and both revisions' counters."""
    spec = rollout.spec
    return Judged(
        shift_journal.load(ports.cluster, spec.namespace, spec.name, rollout.run_id, rollout.planned.revision_id),
        live_metrics.of_stable(rollout, ports),
        live_metrics.of_group(spec, ports, candidate),
    )


def step(rollout: Rollout, seen: Judged, shift: Shift, share: int, now: float) -> Verdict | None:
    """Begin a step, close a window, end on evidence, or wait; None when the step has passed."""
    entry = seen.journal.entry
    if seen.stable is None or seen.candidate is None:
        return Wait("the leaders' metrics cannot be read just now", {"percent": share})
    if entry is None or entry.percent != share:
        begun = _begun(rollout, entry, (seen.stable, seen.candidate), share, now)
        return Act(f"begin to judge at {share} % of the requests", Note(rollout, seen.journal, begun))
    judge, standing = Judge(both_sides.rules(rollout.spec.canary.alpha)), standing_json.from_json(entry.standing)
    if standing.decision.outcome == "rollback":
        return _worse(rollout, seen, standing)
    before, after = total_since(entry.stable, seen.stable), total_since(entry.candidate, seen.candidate)
    if _is_full(shift, now - entry.until, after.finished):
        pairs = both_sides.pairs(before, after, f"{rollout.run_id}/{entry.windows}")
        fair = pairs if share <= _EVEN else both_sides.without_times(pairs)
        closed = _closed(entry, judge, judge.after(standing, fair), (seen.stable, seen.candidate), now)
        return Act(f"note window {closed.windows} at {share} %", Note(rollout, seen.journal, closed))
    pairs_judged = standing.totals.pairs - entry.pairs_before
    if now - entry.since >= shift.step_seconds and pairs_judged >= shift.step_pairs and not _doubts(judge, standing):
        return None
    return _waiting(rollout, seen, shift, pairs_judged, now)


def act(plan: Note, ports: Ports) -> None:
    """Write the journal and draw the picture.

    Raises:
        Conflict: Somebody wrote since it was seen.
    """
    spec, entry = plan.rollout.spec, plan.entry
    shift_journal.KIND.write(ports.cluster, spec.namespace, spec.name, plan.journal, entry)
    if entry.windows:
        kept_files.try_put(ports, plan.rollout.evidence_path("switch_service.svg"), _chart(entry, spec.canary.alpha))


def evidence(rollout: Rollout, seen: Judged) -> dict[str, Any]:
    """Numbers for the record, few enough to stay in it."""
    entry = seen.journal.entry
    if entry is None:
        return {}
    judge, standing = Judge(both_sides.rules(rollout.spec.canary.alpha)), standing_json.from_json(entry.standing)
    return {
        "percent": entry.percent, "windows": entry.windows, "pairs": standing.totals.pairs,
        "failed": {"candidate": standing.totals.candidate_failed, "stable": standing.totals.stable_failed},
        "wealth": _short(judge.wealth(standing)), "worse": _held(judge, standing),
    }  # fmt: skip


def window_seconds(shift: Shift) -> float:
    """How long a window is: a part of a step, at least one second."""
    return min(max(shift.step_seconds / WINDOWS_A_STEP, 1.0), LONGEST_WINDOW_SECONDS)


def _is_full(shift: Shift, seconds: float, requests: int) -> bool:
    """Few requests are waited for, but not for ever: the hour must be the same for both sides."""
    usual = window_seconds(shift)
    enough = requests >= both_sides.ROUND_PAIRS or (requests > 0 and seconds >= 2 * usual)
    return seconds >= usual and enough


def _begun(rollout: Rollout, entry: Entry | None, readings: tuple[Readings, Readings], share: int, now: float) -> Entry:
    """The next step: counters from here on, the pots as they are."""
    stable, candidate = readings
    if entry is None:
        standing = standing_json.as_json(Judge(both_sides.rules(rollout.spec.canary.alpha)).begin())
        entry = Entry(
            run_id=rollout.run_id, revision_id=rollout.planned.revision_id, percent=share, since=now, pairs_before=0,
            until=now, stable=stable, candidate=candidate, standing=standing,
        )  # fmt: skip
    before = standing_json.from_json(entry.standing).totals.pairs
    now_at = {"percent": share, "since": now, "until": now, "pairs_before": before}
    return entry.model_copy(update={**now_at, "stable": stable, "candidate": candidate})


def _closed(entry: Entry, judge: Judge, standing: Standing, readings: tuple[Readings, Readings], now: float) -> Entry:
    stable, candidate = readings
    held = {**_held(judge, standing), "together": _short(judge.wealth(standing))}
    return entry.model_copy(
        update={
            "until": now, "stable": stable, "candidate": candidate, "standing": standing_json.as_json(standing),
            "windows": entry.windows + 1, "trail": trail.thinned(entry.trail, held, entry.windows + 1),
        }
    )  # fmt: skip


def _worse(rollout: Rollout, seen: Judged, standing: Standing) -> Fail:
    share = seen.journal.entry.percent if seen.journal.entry else 0
    return Fail(
        f"{rollout.planned.revision_id} is worse on {share} % of the live requests ({standing.decision.metric}): "
        f"{standing.decision.sentence}",
        "all requests go back to the revision before; read the leaders' logs in the evidence of roll_back",
        {"shift": evidence(rollout, seen)},
    )


def _waiting(rollout: Rollout, seen: Judged, shift: Shift, pairs: int, now: float) -> Wait:
    entry, told = seen.journal.entry, evidence(rollout, seen)
    share, silent = (entry.percent, now - entry.until) if entry else (0, 0.0)
    quiet = f"; no request has reached it for {silent:.0f} s" if silent > 2 * window_seconds(shift) else ""
    worst = max(told["worse"], key=lambda name: told["worse"][name]) if told else ""
    doubted = told and (told["worse"][worst] >= _DOUBT or told["wealth"] > _QUIET)
    doubt = f"; bets that its {worst} is worse hold {told['worse'][worst]}" if doubted else ""
    return Wait(f"{share} % of the requests on the candidate, {pairs} of {shift.step_pairs} judged{quiet}{doubt}", told)


def _doubts(judge: Judge, standing: Standing) -> bool:
    return judge.wealth(standing) > _QUIET or max(_held(judge, standing).values()) >= _DOUBT


def _held(judge: Judge, standing: Standing) -> dict[str, float]:
    return {name: _short(worse) for name, (worse, _) in judge.evidence(standing).items() if name in both_sides.WEIGHTS}


def _chart(entry: Entry, alpha: float) -> str:
    names = entry.trail[-1]
    pots = {name: [held.get(name, 1.0) for held in entry.trail] for name in names}
    panel = trail.worse_panel("The candidate is worse", pots, alpha)
    return chart.draw([panel], trail.points(entry.windows), "windows of live requests")


def _short(number: float) -> float:
    return float(f"{number:.3g}")
