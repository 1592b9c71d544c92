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

_NEVER = "None"
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


def starting(manifest: Manifest) -> Manifest:
    """``manifest`` for a candidate that has never served: the controller leaves a failed group as it is.

    It would make it anew at once and for ever, take the evidence with the pods, and cannot be told to stop in time
    (kubernetes-sigs/lws#1048). So a cold start is recreated by the step that waits for it, and by nobody else.
    """
    template = {**manifest["spec"]["leaderWorkerTemplate"], "restartPolicy": _NEVER}
    return {**manifest, "spec": {**manifest["spec"], "leaderWorkerTemplate": template}}


def is_starting(live: Manifest) -> bool:
    """Whether nobody recreates a failed group of it by himself."""
    policy = live.get("spec", {}).get("leaderWorkerTemplate", {}).get("restartPolicy")
    return bool(policy == _NEVER)


def serving(manifest: Manifest, live: Manifest) -> Manifest:
    """``manifest`` for groups that have come up: from now on the controller recreates one that fails.

    The policy is part of the controller's revision, and a new revision restarts every group from the partition on. So
    the partition goes behind the last group: those that run keep running, what is made from now on is the same but for
    the revision's name (seen on LeaderWorkerSet 0.9).
    """
    whole = with_restart_limit(manifest, restart_limit(live))
    replicas = live["spec"]["replicas"]
    known = live["metadata"].get("annotations", {}).get(names.RESTARTS_ANNOTATION, "{}")
    metadata = {
        **whole["metadata"],
        "annotations": {**whole["metadata"]["annotations"], names.RESTARTS_ANNOTATION: known},
    }
    update = {**whole["spec"]["rolloutStrategy"]["rollingUpdateConfiguration"], "partition": replicas}
    strategy = {**whole["spec"]["rolloutStrategy"], "rollingUpdateConfiguration": update}
    spec = {**whole["spec"], "replicas": replicas, "rolloutStrategy": strategy}
    return {**whole, "metadata": metadata, "spec": spec}


def scaled(manifest: Manifest, live: Manifest, replicas: int, restarts: str) -> Manifest:
    """``manifest`` for this many groups that have to start, with what is known of failed starts, over ``live``.

    The stamp stays that of the manifest: how many groups there are for now is not its content.
    """
    metadata = manifest["metadata"]
    annotations = {**metadata["annotations"], names.RESTARTS_ANNOTATION: restarts}
    whole = starting(with_restart_limit(manifest, restart_limit(live)))
    return {
        **whole,
        "metadata": {**metadata, "annotations": annotations},
        "spec": {**whole["spec"], "replicas": replicas},
    }


def with_restart_limit(manifest: Manifest, limit: int | None) -> Manifest:
    """``manifest`` with LeaderWorkerSet's own bound on recreations (v1 on), not part of the stamp.

    The field is part of the controller's revision: brought into a group that runs, or taken out of it, it would
    restart the pods. So it is set when a LeaderWorkerSet is made, and then stays as it is.
    """
    if limit is None:
        return manifest
    template = {**manifest["spec"]["leaderWorkerTemplate"], "maxGroupRestarts": limit}
    return {**manifest, "spec": {**manifest["spec"], "leaderWorkerTemplate": template}}


def restart_limit(live: Manifest) -> int | None:
    """The bound that a LeaderWorkerSet has; None without one."""
    limit: int | None = live.get("spec", {}).get("leaderWorkerTemplate", {}).get("maxGroupRestarts")
    return limit


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
