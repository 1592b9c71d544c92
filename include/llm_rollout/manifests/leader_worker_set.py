"""The LeaderWorkerSet of one revision."""

from __future__ import annotations

import math
from typing import Any

from llm_rollout import kinds, names
from llm_rollout.manifests import engine, pods, stamp
from llm_rollout.ports import Manifest
from llm_rollout.rollout import RolloutPlan
from llm_rollout.spec import RolloutSpec

CONTAINER = "vllm"
"""The only container of a pod, leader and worker alike."""
PORT_NAME = "http"
"""The leader's named port; the Service and the PodMonitor refer to it, so the number may differ between revisions."""

_AFTER_DRAIN_SECONDS = 30
"""What an engine gets to exit after its open requests, before it is killed (the Kubernetes default)."""


def leader_worker_set(spec: RolloutSpec, plan: RolloutPlan) -> Manifest:
    """The groups of the plan's revision on the plan's nodes."""
    labels = {names.MODEL_LABEL: spec.name, names.REVISION_LABEL: plan.revision_id}
    return stamp({
        "apiVersion": kinds.LEADER_WORKER_SET.api_version,
        "kind": kinds.LEADER_WORKER_SET.kind,
        "metadata": {
            "name": plan.lws,
            "namespace": spec.namespace,
            "labels": labels,
            "annotations": {names.FENCE_ANNOTATION: str(plan.fencing_token)},
        },
        "spec": {
            "replicas": spec.groups,
            "startupPolicy": "LeaderCreated",
            "networkConfig": {"subdomainPolicy": "Shared"},
            "rolloutStrategy": {
                "type": "RollingUpdate",
                "rollingUpdateConfiguration": {"partition": 0, "maxUnavailable": 1, "maxSurge": 0},
            },
            "leaderWorkerTemplate": {
                "size": spec.server.nodes_per_group,
                # A group with one dead rank is dead, but a slow image pull must not restart the others.
                "restartPolicy": "RecreateGroupAfterStart",
                "leaderTemplate": _template(spec, plan, "leader"),
                "workerTemplate": _template(spec, plan, "leader" if spec.server.nodes_per_group == 1 else "worker"),
            },
        },
    })  # fmt: skip


def revision_content(spec: RolloutSpec) -> dict[str, Any]:
    """Everything of the spec that reaches the pods besides name, commit and nodes: the server part of a revision.

    ``names.revision_id`` takes it, so that a changed budget gets a LeaderWorkerSet of its own; under the same name
    it would restart the serving groups in place.
    """
    return {
        "server": spec.server.model_dump(mode="json"),
        "store": spec.store.model_dump(mode="json"),
        "repo": spec.model.repo,
        "cold_start_seconds": spec.timing.cold_start_seconds,
        "drain_seconds": spec.timing.drain_seconds,
        "grows": _grows(spec),
    }


def _grows(spec: RolloutSpec) -> bool:
    return spec.autoscaling is not None and spec.autoscaling.max_groups > spec.groups


def _template(spec: RolloutSpec, plan: RolloutPlan, role: str) -> dict[str, Any]:
    labels = {names.MODEL_LABEL: spec.name, names.REVISION_LABEL: plan.revision_id, names.ROLE_LABEL: role}
    annotations = pods.network_annotations(spec.server.network)
    metadata = {"labels": labels, "annotations": annotations} if annotations else {"labels": labels}
    return {
        "metadata": metadata,
        "spec": {
            "automountServiceAccountToken": False,
            # A Service named vllm would otherwise put VLLM_PORT=tcp://… into the environment.
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": spec.timing.drain_seconds + _AFTER_DRAIN_SECONDS,
            "tolerations": pods.TOLERATIONS,
            "affinity": {"nodeAffinity": _node_affinity(spec, plan)},
            "containers": [_container(spec, plan, role)],
            "volumes": [
                pods.store_volume(spec),
                {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": spec.server.resources.shm}},
            ],
        },
    }


def _node_affinity(spec: RolloutSpec, plan: RolloutPlan) -> dict[str, Any]:
    """The validated nodes; groups that an autoscaler adds later need others, so then they are only preferred."""
    return pods.rather_on_nodes(plan.nodes) if _grows(spec) else pods.on_nodes(plan.nodes)


def _container(spec: RolloutSpec, plan: RolloutPlan, role: str) -> dict[str, Any]:
    command = engine.leader_command if role == "leader" else engine.worker_command
    container = {
        "name": CONTAINER,
        "image": spec.server.image,
        "command": command(spec, plan.commit),
        "env": engine.environment(spec),
        "resources": _resources(spec),
        **pods.network_security(spec.server.network),
        "volumeMounts": [pods.store_mount(spec, read_only=True), {"name": "shm", "mountPath": "/dev/shm"}],  # noqa: S108
    }
    return {**container, **_serving(spec)} if role == "leader" else container


def _resources(spec: RolloutSpec) -> dict[str, Any]:
    return {
        "requests": {"cpu": spec.server.resources.cpu, "memory": spec.server.resources.memory},
        "limits": {"nvidia.com/gpu": spec.server.gpus_per_node, **pods.network_limits(spec.server.network)},
    }


def _serving(spec: RolloutSpec) -> dict[str, Any]:
    """Port and probes of the leader; headless workers serve no HTTP.

    vLLM listens only when the engine is up, so the startup probe covers the whole cold start, and only then the
    liveness probe counts. Readiness is asked as often as start-up, at least every 5 s: a rollout waits for it.
    """
    health = {"httpGet": {"path": "/health", "port": PORT_NAME}}
    cold_start = spec.timing.cold_start_seconds
    period = max(1, min(5, cold_start // 120))
    return {
        "ports": [{"name": PORT_NAME, "containerPort": spec.server.port}],
        "startupProbe": {
            **health, "periodSeconds": period, "timeoutSeconds": 5, "failureThreshold": math.ceil(cold_start / period),
        },
        "readinessProbe": {**health, "periodSeconds": period, "timeoutSeconds": 5, "failureThreshold": 3},
        "livenessProbe": {**health, "periodSeconds": 10, "timeoutSeconds": 10, "failureThreshold": 6},
    }  # fmt: skip
