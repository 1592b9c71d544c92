"""Live traffic on the new revision is healthy for the bake time, the old groups still warm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from llm_rollout import record
from llm_rollout.errors import Transient
from llm_rollout.ports import Ports
from llm_rollout.rollout import Rollout
from llm_rollout.steps import group_state, live_metrics, pod_state, traffic
from llm_rollout.steps.group_state import GroupState
from llm_rollout.steps.live_metrics import Load
from llm_rollout.steps.traffic import Traffic
from llm_rollout.verdict import Done, Fail, Verdict, Wait

FEWEST_ERRORS = 3
"""So many errors at least, before their share counts: one failed request of the first ten is no trend."""


@dataclass(frozen=True)
class Seen:
    """The Service, the groups behind it, and their counters since the switch (None: not readable just now)."""

    traffic: Traffic
    live: GroupState
    load: Load | None


def observe(rollout: Rollout, ports: Ports) -> Seen:
    """Read Service, groups, events and the leaders' metrics."""
    spec, plan = rollout.spec, rollout.planned
    state = group_state.observe(ports, spec.namespace, spec.name, plan.revision_id, plan.lws)
    state = group_state.with_words(state, ports, spec.namespace)
    return Seen(traffic.observe(spec, ports), state, _load(rollout, ports, state))


def decide(rollout: Rollout, seen: Seen, now: float) -> Verdict:
    """Any group lost or too many errors ends the bake; only a reading of the counters at its end is a good end."""
    spec, plan = rollout.spec, rollout.planned
    if seen.traffic.selected != plan.revision_id:
        return Fail(
            f"Service {spec.service.name} selects {seen.traffic.selected}, not {plan.revision_id}: "
            "somebody switched it back",
            "clear switch_service to switch again, or leave it and start a new rollout",
        )
    bad = _unhealthy(rollout, seen)
    if bad is not None:
        return bad
    evidence: dict[str, Any] = {"load": seen.load.as_json() if seen.load else None}
    left = seen.traffic.switched_at + spec.timing.bake_seconds - now
    if left > 0:
        return Wait(f"live on {plan.revision_id}, {_told(seen.load)}", {"seconds_left": round(left), **evidence})
    if seen.load is None:
        return Wait("the bake time is over, but the leaders' metrics cannot be read", evidence)
    return Done(f"{plan.revision_id} was healthy on live traffic for {spec.timing.bake_seconds} s", evidence)


def act(plan: object, ports: Ports) -> None:
    """Nothing: watching is observing."""


def _unhealthy(rollout: Rollout, seen: Seen) -> Fail | None:
    missing = group_state.not_serving(seen.live)
    if missing:
        lost = {pod_state.name(pod): _state_of(pod, seen) for pod in seen.live.pods if not pod_state.is_ready(pod)}
        return Fail(
            f"{rollout.planned.lws} no longer serves as a whole: {missing}",
            "read why in the evidence; traffic goes back to the revision before",
            {"pods": lost, "events": group_state.warnings(seen.live)},
        )
    load, limit = seen.load, rollout.spec.canary.max_error_rate
    if load is None or load.errors < FEWEST_ERRORS or load.errors <= limit * load.finished:
        return None
    return Fail(
        f"{load.errors} of {load.finished} live requests ended with an error since the switch "
        f"({load.errors / load.finished:.1%}, canary.max_error_rate is {limit:.1%})",
        "read the leaders' logs in the evidence of roll_back; traffic goes back to the revision before",
        {"load": load.as_json()},
    )


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
