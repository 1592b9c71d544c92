"""The pipeline: one module a step, each with ``observe``, ``decide`` and ``act`` in that order.

``task_id`` = module = test file = heading in the README.
"""

from __future__ import annotations

PIPELINE = (
    "plan_rollout",
    "stage_weights",
    "validate_rdma",
    "create_group",
    "await_cold_start",
    "smoke_test",
    "evaluate_canary",
    "switch_service",
    "watch_live",
    "retire_previous",
)
"""The steps in order; ``stage_weights`` and ``validate_rdma`` run side by side. ``approve`` stands between
``evaluate_canary`` and ``switch_service`` and belongs to Airflow alone: a person answers, not the cluster."""

RECOVERY = ("roll_back", "conclude")
"""``roll_back`` runs after any failure, ``conclude`` always."""
