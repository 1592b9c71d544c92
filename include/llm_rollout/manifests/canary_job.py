"""The Job that compares the candidate with the stable revision on the same prompts."""

from __future__ import annotations

from typing import Any

from llm_rollout import names
from llm_rollout.canary.task_files import CONFIG_MAP_FOLDER, CONFIG_MAP_PREFIX
from llm_rollout.manifests import pods
from llm_rollout.manifests.job import Work, job
from llm_rollout.ports import Manifest
from llm_rollout.rollout import RolloutPlan
from llm_rollout.spec import RolloutSpec

_TASKS_VOLUME = "tasks"
_RESUME = "--resume="
_NEVER_BY_ITSELF = {
    "backoffLimit": 0,
    "podFailurePolicy": {
        "rules": [{"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]
    },
}
"""A second pod of the same Job would begin with new pots; the step starts a Job that goes on with the old ones."""


def canary_job(spec: RolloutSpec, plan: RolloutPlan, run_id: str, attempt: str, state: str = "") -> Manifest:
    """One comparison of one run; without a stable revision the candidate is held against absolute limits.

    ``state`` is where an interrupted Job of the same run stood. It is no part of what the Job is asked for: one that
    began anew and one that goes on have the same content.
    """
    volumes, mounts = _tasks(spec)
    work = Work(
        name=names.evaluate_job_name(spec.name, plan.revision_id, run_id),
        step="evaluate_canary",
        command=_command(spec, plan),
        deadline_seconds=spec.canary.deadline_seconds,
        container={"resources": {"requests": {"cpu": "1", "memory": "1Gi"}}, **mounts},
        pod=volumes,
        job=_NEVER_BY_ITSELF,
        labels={names.REVISION_LABEL: plan.revision_id},
    )
    manifest = job(spec, work, attempt, {names.FENCE_ANNOTATION: str(plan.fencing_token)})
    if state:
        _words(manifest).append(f"{_RESUME}{state}")
    return manifest


def resumed_from(manifest: Manifest) -> str:
    """The state that a Job was started with; empty for one that began anew."""
    return next((word.removeprefix(_RESUME) for word in _words(manifest) if word.startswith(_RESUME)), "")


def leader_url(spec: RolloutSpec, lws: str, port: int) -> str:
    """The leader of a LeaderWorkerSet's first group by its own name: the Service would mix revisions."""
    return f"http://{lws}-0.{lws}.{spec.namespace}:{port}"


def _words(manifest: Manifest) -> list[str]:
    command: list[str] = manifest["spec"]["template"]["spec"]["containers"][0]["command"]
    return command


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


def _tasks(spec: RolloutSpec) -> tuple[dict[str, Any], dict[str, Any]]:
    """Volumes of the pod and mounts of the container, for tasks that are not bundled."""
    tasks = spec.canary.tasks
    if tasks.startswith("/"):
        return {"volumes": [pods.store_volume(spec)]}, {"volumeMounts": [pods.store_mount(spec, read_only=True)]}
    if tasks.startswith(CONFIG_MAP_PREFIX):
        name, _, key = tasks.removeprefix(CONFIG_MAP_PREFIX).partition("/")
        source = {"name": name, "items": [{"key": key, "path": key}]}
        mount = {"name": _TASKS_VOLUME, "mountPath": CONFIG_MAP_FOLDER, "readOnly": True}
        return {"volumes": [{"name": _TASKS_VOLUME, "configMap": source}]}, {"volumeMounts": [mount]}
    return {}, {}
