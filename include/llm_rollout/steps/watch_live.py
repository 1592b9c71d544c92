"""Live traffic on the new revision is healthy for the bake time, the old groups still warm.

The judge goes on, now against the old revision's own history: ``canary.live``. Where its windows stand is in a
ConfigMap beside the record (``live_journal``), so that whoever looks next goes on with the same pots.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from llm_rollout import record
from llm_rollout.errors import Transient
from llm_rollout.ports import Ports
from llm_rollout.rollout import Rollout
from llm_rollout.steps import engine_death, group_state, live_judgement, live_metrics, pod_state, traffic
from llm_rollout.steps.engine_death import Aftermath
from llm_rollout.steps.group_state import GroupState
from llm_rollout.steps.live_judgement import Judged
from llm_rollout.steps.live_metrics import Load
from llm_rollout.steps.traffic import Traffic
from llm_rollout.verdict import Done, Fail, Verdict, Wait

MOST_FAILED = 0.2
"""A larger share of failed requests is no matter of statistics: the old revision is warm, so traffic goes back."""
FEWEST_REQUESTS = 50
"""So many requests at least before that counts: a burst of a second is no trend."""


@dataclass(frozen=True)
class Seen:
    """The Service, the groups behind it, and their counters since the switch (None: not readable just now)."""

    traffic: Traffic
    live: GroupState
    load: Load | None
    judged: Judged = field(default_factory=Judged)
    """What the judge goes on, window after window."""
    aftermath: Aftermath | None = None
    """The ranks' ends and logs, where a group does not serve as a whole."""


def observe(rollout: Rollout, ports: Ports) -> Seen:
    """Read Service, groups, events and the leaders' metrics."""
    spec, plan = rollout.spec, rollout.planned
    state = group_state.observe(ports, spec.namespace, spec.name, plan.revision_id, plan.lws)
    state = group_state.with_words(state, ports, spec.namespace)
    switched = traffic.observe(spec, ports)
    judged = live_judgement.observe(rollout, ports, switched, state)
    aftermath = engine_death.observe(rollout, state, ports) if group_state.not_serving(state) else None
    return Seen(switched, state, _load(rollout, ports, state), judged, aftermath)


def keep(rollout: Rollout, seen: Seen, ports: Ports) -> Seen:
    """Write logs and ends of a group in trouble to the evidence before its pods are gone."""
    return replace(seen, aftermath=engine_death.keep(rollout, seen.aftermath, ports)) if seen.aftermath else seen


def decide(rollout: Rollout, seen: Seen, now: float) -> Verdict:
    """A lost group, a wave of errors or the judge ends the bake; it ends well only where the counters can be read."""
    spec, plan = rollout.spec, rollout.planned
    if seen.traffic.selected != plan.revision_id:
        return Fail(
            f"Service {spec.service.name} selects {seen.traffic.selected}, not {plan.revision_id}: "
            "somebody switched it back",
            "clear switch_service to switch again, or leave it and start a new rollout",
        )
    bad = _unhealthy(rollout, seen, now)
    if bad is not None:
        return bad
    noted = live_judgement.step(rollout, seen.judged, seen.traffic.switched_at, now)
    if noted is not None:
        return noted
    evidence: dict[str, Any] = {"load": seen.load.as_json() if seen.load else None, **_judged(seen)}
    left = seen.traffic.switched_at + spec.timing.bake_seconds - now
    if left > 0:
        return Wait(f"live on {plan.revision_id}, {_told(seen.load)}", {"seconds_left": round(left), **evidence})
    if seen.load is None:
        return Wait("the bake time is over, but the leaders' metrics cannot be read", evidence)
    return Done(f"{plan.revision_id} {_shown(spec.timing.bake_seconds, seen.load, seen.judged)}", evidence)


def act(plan: object, ports: Ports) -> None:
    """Note where the watch stands."""
    if isinstance(plan, live_judgement.Note):
        live_judgement.act(plan, ports)


def _unhealthy(rollout: Rollout, seen: Seen, now: float) -> Fail | None:
    missing = group_state.not_serving(seen.live)
    if missing:
        lost = {pod_state.name(pod): _state_of(pod, seen) for pod in seen.live.pods if not pod_state.is_ready(pod)}
        cause = engine_death.diagnose(seen.aftermath, now).cause if seen.aftermath else None
        why = f"; first cause: {engine_death.told(cause)}" if cause else ""
        return Fail(
            f"{rollout.planned.lws} no longer serves as a whole: {missing}{why}",
            "read why in the evidence; traffic goes back to the revision before",
            {"pods": lost, "events": group_state.warnings(seen.live)},
        )
    load = seen.load
    if load is None or load.finished < FEWEST_REQUESTS or load.errors <= MOST_FAILED * load.finished:
        return live_judgement.worse(rollout, seen.judged)
    return Fail(
        f"{load.errors} of {load.finished} live requests ended with an error since the switch "
        f"({load.errors / load.finished:.1%}, more than {MOST_FAILED:.0%} are never borne)",
        "read the leaders' logs in the evidence of roll_back; traffic goes back to the revision before",
        {"load": load.as_json(), **_judged(seen)},
    )


def _judged(seen: Seen) -> dict[str, Any]:
    found = live_judgement.evidence(seen.judged)
    return {"judged": found} if found else {}


def _shown(bake_seconds: int, load: Load, judged: Judged) -> str:
    """What the bake proves: without traffic that the groups serve, and no more."""
    if judged.standing is None or not judged.standing.windows:
        counts = f"{load.finished} requests since the switch, {load.errors} errors"
        return f"served for {bake_seconds} s, too little live traffic to judge: {counts}"
    return f"was healthy on live traffic for {bake_seconds} s: {live_judgement.summary(judged)}"


def _load(rollout: Rollout, ports: Ports, state: GroupState) -> Load | None:
    spec = rollout.spec
    entry = record.load(ports.cluster, spec.namespace, spec.name).run(rollout.run_id)
    switched = entry.step("switch_service") if entry else None
    before = Load(**((switched.evidence.get("load") or {}) if switched else {}))
    try:
        return live_metrics.read(spec, ports, map(pod_state.name, state.leaders)).since(before)
    except Transient:
        return None


def _told(load: Load | None) -> str:
    if load is None:
        return "metrics not readable just now"
    told = f"{load.finished} requests since the switch, {load.errors} errors, {load.aborted} aborted"
    return f"{told}, {load.waiting} waiting"


def _state_of(pod: dict[str, Any], seen: Seen) -> str:
    crash = pod_state.crash(pod)
    last = (seen.live.words or {}).get(pod_state.name(pod), "").strip().splitlines()[-1:]
    return " ".join([f"exit code {crash.exit_code}" if crash else "not ready", *last])
