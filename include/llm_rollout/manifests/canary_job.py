"""The Job that compares the candidate with the stable revision on the same prompts."""

from __future__ import annotations

from typing import Any

from llm_rollout import names
from llm_rollout.manifests import pods
from llm_rollout.manifests.job import Work, job
from llm_rollout.ports import Manifest
from llm_rollout.rollout import RolloutPlan
from llm_rollout.spec import RolloutSpec


def canary_job(spec: RolloutSpec, plan: RolloutPlan, run_id: str, attempt: str) -> Manifest:
    """One comparison of one run; without a stable revision the candidate is held against absolute limits."""
    work = Work(
        name=names.evaluate_job_name(spec.name, plan.revision_id, run_id),
        step="evaluate_canary",
        command=_command(spec, plan),
        deadline_seconds=spec.canary.deadline_seconds,
        container={"resources": {"requests": {"cpu": "1", "memory": "1Gi"}}, **_tasks_mount(spec)},
        pod={"volumes": [pods.store_volume(spec)]} if _tasks_on_store(spec) else {},
        labels={names.REVISION_LABEL: plan.revision_id},
    )
    return job(spec, work, attempt, {names.FENCE_ANNOTATION: str(plan.fencing_token)})


def leader_url(spec: RolloutSpec, lws: str, port: int) -> str:
    """The leader of a LeaderWorkerSet's first group by its own name: the Service would mix revisions."""
    return f"http://{lws}-0.{lws}.{spec.namespace}:{port}"


def _command(spec: RolloutSpec, plan: RolloutPlan) -> list[str]:
    port = spec.server.port
    stable = [f"--stable={leader_url(spec, plan.stable_lws, plan.stable_port or port)}"] if plan.stable_lws else []
    return [
        "llm-rollout",
        "evaluate",
        f"--candidate={leader_url(spec, plan.lws, port)}",
        *stable,
        f"--model={spec.served_name}",
        f"--config={spec.canary.model_dump_json()}",
    ]


def _tasks_on_store(spec: RolloutSpec) -> bool:
    return spec.canary.tasks.startswith("/")


def _tasks_mount(spec: RolloutSpec) -> dict[str, Any]:
    return {"volumeMounts": [pods.store_mount(spec, read_only=True)]} if _tasks_on_store(spec) else {}
