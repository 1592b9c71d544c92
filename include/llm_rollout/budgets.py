"""How long a step may wait, from the spec: the one place where deadlines are made."""

from __future__ import annotations

from llm_rollout.spec import RolloutSpec

LEASE_SLACK_SECONDS = 900
"""On top of the longest wait of a step: retries, queues, a restart of Airflow."""
_CONTROLLERS_SECONDS = 300
"""What controllers, images and endpoints get where the spec says nothing."""
_NEVER_WAITS_SECONDS = 60
_SWITCH_SECONDS = 120


def wait_seconds(step: str, spec: RolloutSpec) -> int:
    """The longest that a step may wait in all. A group that ends takes up to twice its grace period."""
    timing = spec.timing
    ending = timing.drain_seconds + 2 * (timing.drain_seconds + 30) + _CONTROLLERS_SECONDS
    known = {
        "stage_weights": timing.staging_seconds,
        "validate_rdma": spec.fabric.deadline_seconds * (2 if spec.fabric.replan else 1),
        "create_group": _CONTROLLERS_SECONDS,
        "await_cold_start": timing.cold_start_seconds,
        "smoke_test": 120,
        "evaluate_canary": spec.canary.deadline_seconds,
        "switch_service": _SWITCH_SECONDS + (spec.shift.deadline_seconds if spec.shift else 0),
        "watch_live": timing.bake_seconds + 120,
        "retire_previous": ending,
        "roll_back": timing.cold_start_seconds + ending,
    }
    return known.get(step, _NEVER_WAITS_SECONDS)


def lease_seconds(step: str, spec: RolloutSpec) -> int:
    """How long the lease has to hold when a step begins to wait: triggers wait for it and renew nothing."""
    approval = spec.approval.response_timeout_seconds if spec.approval and step == "evaluate_canary" else 0
    return wait_seconds(step, spec) + approval + LEASE_SLACK_SECONDS
