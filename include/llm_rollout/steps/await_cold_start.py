"""Every group of the candidate serves as one; if it does not, the reason is named long before the deadline."""

from __future__ import annotations

from typing import Any

from llm_rollout.ports import Manifest, Ports
from llm_rollout.rollout import Rollout
from llm_rollout.steps import group_state, pod_state, startup
from llm_rollout.steps.group_state import GroupState
from llm_rollout.steps.pod_state import Crash
from llm_rollout.verdict import Done, Fail, Verdict, Wait

_LAST_LINES = 15
_CLEAR = "when it is put right, clear create_group and what follows it"


def observe(rollout: Rollout, ports: Ports) -> GroupState:
    """Read the candidate's LeaderWorkerSet, its pods, their last words and the events."""
    spec, plan = rollout.spec, rollout.planned
    state = group_state.observe(ports, spec.namespace, spec.name, plan.revision_id, plan.lws)
    return group_state.with_words(state, ports, spec.namespace)


def decide(rollout: Rollout, seen: GroupState, now: float) -> Verdict:
    """Serving first, then reasons why it never will, then patience."""
    if seen.lws is None or pod_state.is_going(seen.lws):
        return Fail(
            f"LeaderWorkerSet {rollout.planned.lws} is gone: somebody deleted it",
            "clear create_group and what follows it",
        )
    missing = group_state.not_serving(seen)
    if not missing:
        return _serving(seen)
    return _crash_loop(rollout, seen) or _stuck(seen, now) or _starting(seen, missing)


def act(plan: object, ports: Ports) -> None:
    """Nothing: others start the group."""


def _serving(seen: GroupState) -> Done:
    count, _ = group_state.recreations(seen)
    nodes = {pod_state.name(pod): pod_state.node(pod) for pod in seen.pods}
    recreated = f" after {count} recreations" if count else ""
    return Done(
        f"{seen.replicas} of {seen.replicas} groups serve ({len(seen.pods)} pods ready){recreated}",
        {"pods": nodes, "recreations": count},
    )


def _crash_loop(rollout: Rollout, seen: GroupState) -> Fail | None:
    """Recreations that were counted, and crashes since the last of them.

    One that led to a recreation ended before it, and is not counted twice while its pod still goes.
    """
    allowed = rollout.spec.timing.max_recreations
    recreated, last = group_state.recreations(seen)
    crashes = [crash for pod in seen.pods if (crash := pod_state.crash(pod))]
    fresh = [crash for crash in crashes if crash.ended > last]
    in_place = max((_lives(pod) for pod in seen.pods if _crashed_after(pod, last)), default=0)
    if recreated + in_place <= allowed:
        return None
    shown = max(fresh or crashes, key=lambda crash: crash.ended, default=None)
    return _looping(seen, recreated + in_place, allowed, shown)


def _lives(pod: Manifest) -> int:
    """How many times a pod's containers have ended: restarts, and the end that no restart has followed yet."""
    crash = pod_state.crash(pod)
    return max(1, pod_state.restarts(pod) + (1 if crash and not crash.restarted else 0))


def _crashed_after(pod: Manifest, moment: float) -> bool:
    crash = pod_state.crash(pod)
    return crash is not None and crash.ended > moment


def _looping(seen: GroupState, count: int, allowed: int, crash: Crash | None) -> Fail:
    counted = f"the group crashed {count} times, timing.max_recreations allows {allowed}"
    evidence: dict[str, Any] = {"crashes": count, "events": group_state.warnings(seen)}
    if crash is None:
        told = [event["message"] for event in seen.events if event.get("reason") == "RecreateGroup"]
        return Fail(f"{counted}; {told[-1] if told else 'no pod of a crash is left to read'}", _CLEAR, evidence)
    text = (seen.words or {}).get(crash.pod, "")
    lines = text.strip().splitlines()[-_LAST_LINES:]
    evidence |= {
        "pod": crash.pod,
        "node": crash.node,
        "container": crash.container,
        "exit_code": crash.exit_code,
        "last_lines": lines,
    }
    why = f" ({crash.reason})" if crash.reason not in ("", "Error") else ""
    return Fail(
        f"{counted}: pod {crash.pod} on {crash.node}, container {crash.container}, exit code {crash.exit_code}{why}, "
        f"last line: {startup.last_line(text) or '(none)'}",
        f"{startup.remedy(text)}; {_CLEAR}",
        evidence,
    )


def _stuck(seen: GroupState, now: float) -> Fail | None:
    troubles = [trouble for pod in seen.pods if (trouble := pod_state.trouble(pod, now))]
    if not troubles:
        return None
    first = min(troubles, key=lambda one: one.since)
    where = f" on {first.node}" if first.node else ""
    return Fail(
        f"pod {first.pod}{where} does not start: {first.reason} for {now - first.since:.0f} s: {first.message}",
        f"{first.remedy}; {_CLEAR}",
        {"pods": {one.pod: f"{one.reason}: {one.message}" for one in troubles}, "events": group_state.warnings(seen)},
    )


def _starting(seen: GroupState, missing: str) -> Wait:
    words = seen.words or {}
    phases = {pod_state.name(pod): _progress(pod, words.get(pod_state.name(pod), "")) for pod in seen.pods}
    bad = group_state.warnings(seen)
    return Wait(missing + (f"; {bad[0]}" if bad and not seen.pods else ""), {"pods": phases, "events": bad})


def _progress(pod: Manifest, text: str) -> str:
    if pod_state.is_ready(pod):
        return "ready"
    if pod_state.is_going(pod):
        return "going"
    crash = pod_state.crash(pod)
    crashed = f"exit code {crash.exit_code}; " if crash else ""
    return f"{crashed}{pod_state.blocked(pod) or startup.phase(text)}: {startup.last_line(text)[-160:]}"
