"""The judge goes on over the bake time: windows of the leaders' counters, held against the old revision's history."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from llm_rollout import record
from llm_rollout.canary import chart, live, trail
from llm_rollout.canary.live import Limit, Seen, Standing
from llm_rollout.canary.live_readings import Reading
from llm_rollout.ports import Ports
from llm_rollout.rollout import Rollout
from llm_rollout.spec import Timing
from llm_rollout.steps import kept_files, live_journal, live_metrics
from llm_rollout.steps.group_state import GroupState
from llm_rollout.steps.live_journal import Entry, Journal
from llm_rollout.steps.traffic import Traffic
from llm_rollout.verdict import Act, Fail

WINDOWS = 20
"""In a bake of usual length."""
LONGEST_WINDOW_SECONDS = 30.0
FEWEST_REQUESTS = 20
"""A window waits for so many requests, but no longer than for four windows."""
HISTORY_SECONDS = 20.0
"""How long after the switch the old leaders are asked again before the watch begins without their history."""


@dataclass(frozen=True)
class Judged:
    """What the judge has to go on."""

    journal: Journal = field(default_factory=Journal)
    readings: Mapping[str, Reading] | None = None
    """The new leaders' counters; None when they could not be read."""
    history: Reading | None = None
    """The old leaders' counters; None where there are none or they could not be read. Read once only."""
    canary_requests: int = 0
    """So many requests of that history were the canary's."""

    @property
    def standing(self) -> Standing | None:
        """Where the watch of this switch stands."""
        return self.journal.entry.standing if self.journal.entry else None


@dataclass(frozen=True)
class Note:
    """Write down where the watch stands."""

    rollout: Rollout
    journal: Journal
    entry: Entry


def observe(rollout: Rollout, ports: Ports, switched: Traffic, state: GroupState) -> Judged:
    """Read the journal, the new leaders' counters, and the old ones' as long as nothing is noted of them."""
    spec, plan = rollout.spec, rollout.planned
    journal = live_journal.load(ports.cluster, spec.namespace, spec.name, plan.revision_id, switched.switched_at)
    readings = live_metrics.of_group(spec, ports, state)
    if journal.entry is not None:
        return Judged(journal, readings)
    history = live_metrics.of_stable(rollout, ports)
    known = sum(history.values(), Reading()) if history else None
    return Judged(journal, readings, known, _canary_requests(rollout, ports))


def step(rollout: Rollout, seen: Judged, switched_at: float, now: float) -> Act | None:
    """Begin the watch, or close a window that is full; None where there is nothing to note."""
    if seen.readings is None:
        return None
    if seen.standing is None or seen.journal.entry is None:
        return _begin(rollout, seen, seen.readings, switched_at, now)
    ends = switched_at + rollout.spec.timing.bake_seconds
    requests = live.since(seen.standing, seen.readings).finished
    if not _is_full(
        rollout.spec.timing, now - seen.standing.until, requests, is_last=seen.standing.until < ends <= now
    ):
        return None
    standing = live.after(seen.standing, seen.readings, now, rollout.spec.canary.alpha)
    entry = seen.journal.entry.model_copy(update={"standing": standing})
    return Act(
        f"note window {standing.windows} of live traffic: {requests} requests", Note(rollout, seen.journal, entry)
    )


def act(plan: Note, ports: Ports) -> None:
    """Write the journal.

    Raises:
        Conflict: Somebody wrote since it was seen.
    """
    spec, standing = plan.rollout.spec, plan.entry.standing
    live_journal.KIND.write(ports.cluster, spec.namespace, spec.name, plan.journal, plan.entry)
    if standing.windows:
        kept_files.try_put(ports, plan.rollout.evidence_path("watch_live.svg"), _chart(standing, spec.canary.alpha))


def worse(rollout: Rollout, seen: Judged) -> Fail | None:
    """The end of the bake once a metric has convinced; it stays the end whatever happens later."""
    standing = seen.standing
    if standing is None or not standing.crossed:
        return None
    told = "; ".join(_told(limit, standing) for limit in standing.limits if limit.metric == standing.crossed)
    odds = f"{1 / rollout.spec.canary.alpha:.0f}"
    return Fail(
        f"{rollout.planned.revision_id} is worse on live traffic ({standing.crossed}): {told}; "
        f"a stake of 1 on that grew to {odds}, which within the limits happens at most 1 time in {odds}",
        "read the leaders' logs in the evidence of roll_back; traffic goes back to the revision before",
        {"judged": evidence(seen)},
    )


def summary(seen: Judged) -> str:
    """What the windows showed, for a bake that ends well."""
    standing, entry = seen.standing, seen.journal.entry
    if standing is None or entry is None:
        return "nothing was judged"
    told = "; ".join(_told(limit, standing) for limit in standing.limits)
    unknown = "" if entry.history_requests is not None else "; nothing is known of the revision before"
    return f"{standing.requests} requests in {standing.windows} windows: {told}{unknown}"


def evidence(seen: Judged) -> dict[str, Any]:
    """Numbers for the record, few enough to stay in it."""
    standing, entry = seen.standing, seen.journal.entry
    if standing is None or entry is None:
        return {}
    held = {name: _short(worth) for name, worth in live.by_metric(standing).items()}
    return {
        "windows": standing.windows,
        "requests": standing.requests,
        "history_requests": entry.history_requests,
        "wealth": _short(live.wealth(standing)),
        "worse": held,
        "limits": {limit.name: _numbers(limit, standing) for limit in standing.limits},
    }


def window_seconds(timing: Timing) -> float:
    """How long a window is: the twentieth part of the bake, at least one second."""
    return min(max(timing.bake_seconds / WINDOWS, 1.0), LONGEST_WINDOW_SECONDS)


def _is_full(timing: Timing, seconds: float, requests: int, *, is_last: bool) -> bool:
    if not requests:
        return False
    usual = window_seconds(timing)
    return is_last or (seconds >= usual and requests >= FEWEST_REQUESTS) or seconds >= 4 * usual


def _begin(
    rollout: Rollout, seen: Judged, readings: Mapping[str, Reading], switched_at: float, now: float
) -> Act | None:
    asks_again = rollout.planned.stable_lws is not None and seen.history is None
    if asks_again and now - switched_at < min(HISTORY_SECONDS, rollout.spec.timing.bake_seconds):
        return None
    held = live.limits(seen.history, seen.canary_requests, rollout.spec.canary.max_error_rate)
    entry = Entry(
        switched_at=switched_at,
        revision_id=rollout.planned.revision_id,
        history_requests=seen.history.finished if seen.history else None,
        standing=live.begin(held, readings, now),
    )
    return Act("note what the old revision did before", Note(rollout, seen.journal, entry))


def _canary_requests(rollout: Rollout, ports: Ports) -> int:
    entry = record.load(ports.cluster, rollout.spec.namespace, rollout.spec.name).run(rollout.run_id)
    compared = entry.step("evaluate_canary") if entry else None
    return int(compared.evidence.get("pairs") or 0) if compared else 0


def _chart(standing: Standing, alpha: float) -> str:
    pots = {name: [held[name] for held in standing.trail] for name in live.by_metric(standing)}
    pots["together"] = [live.together(held) for held in standing.trail]
    panel = trail.worse_panel("This revision is worse than the one before", pots, alpha)
    return chart.draw([panel], trail.points(standing.windows), "windows of live traffic")


def _told(limit: Limit, standing: Standing) -> str:
    seen, before = standing.seen.get(limit.name, Seen()), f" against {limit.before:.1%} before" if limit.known else ""
    if not limit.bound:
        return f"{seen.bad} of {seen.of} requests failed ({_share(seen)}{before}, up to {limit.most:.1%} is borne)"
    what = "first tokens" if limit.metric == "ttft" else "times between tokens"
    return f"{_share(seen)} of {seen.of} {what} took over {limit.bound} s{before}, up to {limit.most:.1%} is borne"


def _numbers(limit: Limit, standing: Standing) -> dict[str, Any]:
    seen = standing.seen.get(limit.name, Seen())
    before = round(limit.before, 4) if limit.known else None
    return {"bad": seen.bad, "of": seen.of, "before": before, "most": round(limit.most, 4)}


def _share(seen: Seen) -> str:
    return f"{seen.bad / seen.of:.1%}" if seen.of else "none"


def _short(number: float) -> float:
    return float(f"{number:.3g}")
