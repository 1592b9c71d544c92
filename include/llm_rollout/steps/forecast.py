"""What a planned rollout will take and cost, for the person who asks before it starts. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llm_rollout.record import Record
from llm_rollout.rollout import RolloutPlan
from llm_rollout.steps import capacity
from llm_rollout.steps.capacity import Room

_BYTES_PER_SECOND = 1_000_000_000
"""Assumed where this model was never staged: half of what one 25 Gbit/s link and its disks usually give."""


def forecast(plan: RolloutPlan, found: Record, rooms: Sequence[Room], *, staged: bool) -> dict[str, Any]:
    """Nodes, GPUs, bytes, minutes, what users see and what going back costs."""
    server, timing = plan.spec.server, plan.spec.timing
    minutes, source = _minutes(plan, found, staged=staged)
    return {
        "revision_id": plan.revision_id,
        "commit": plan.commit,
        "strategy": "blue_green",
        "lws": plan.lws,
        "stable": plan.stable_lws,
        "nodes": list(plan.nodes),
        "gpus_needed": 0 if plan.already_live else len(plan.nodes) * server.gpus_per_node,
        "gpus_free": int(sum(room.free.get(capacity.GPU, 0) for room in rooms if not room.closed)),
        "bytes_to_fetch": 0 if staged or plan.already_live else plan.weights_bytes,
        "users_see_an_outage": False,
        "roll_back_costs": (
            f"nothing before the switch; seconds for {timing.bake_seconds} s after it, the old groups are still warm; "
            f"then a cold start of up to {timing.cold_start_seconds} s"
            if plan.stable_lws
            else "there is no earlier revision: going back means serving nothing"
        ),
        "expected_minutes": minutes,
        "expected_from": source,
    }


def _minutes(plan: RolloutPlan, found: Record, *, staged: bool) -> tuple[float, str]:
    """The last rollout of this model that changed something is the best guess."""
    if plan.already_live:
        return 0.0, "nothing to do"
    past = [
        entry.ended - entry.started
        for entry in found.rollouts
        if entry.outcome == "succeeded" and entry.ended and entry.plan and not entry.plan.already_live
    ]
    if past:
        return round(past[-1] / 60, 1), "the last rollout that succeeded"
    spec = plan.spec
    fetch = 0.0 if staged else plan.weights_bytes / _BYTES_PER_SECOND
    measure = len(plan.nodes) * spec.fabric.seconds_per_pair * max(1, len(spec.server.network.hcas))
    known = fetch + measure + spec.timing.cold_start_seconds + spec.timing.bake_seconds + spec.timing.drain_seconds
    return round(known / 60, 1), "the spec's budgets, without the canary: no rollout of this model has succeeded yet"
