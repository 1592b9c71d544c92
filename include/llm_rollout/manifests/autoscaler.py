"""The HorizontalPodAutoscaler that adds and removes groups."""

from __future__ import annotations

from llm_rollout import kinds, names
from llm_rollout.manifests import stamp
from llm_rollout.ports import Manifest
from llm_rollout.spec import RolloutSpec

_LONGEST_WINDOW_SECONDS = 3600
"""The API's own limit of a stabilization window."""


def autoscaler(spec: RolloutSpec, lws: str) -> Manifest:
    """The autoscaler of one LeaderWorkerSet; moving it to the next revision is applying it with the other name.

    Raises:
        ValueError: The spec has no ``autoscaling``.
    """
    scaling = spec.autoscaling
    if scaling is None:
        raise ValueError(f"autoscaling is not set in the spec of {spec.name}")
    # A queue is a need now. A removed group costs a cold start to get back, so it has to be idle for that long.
    idle_seconds = min(max(300, spec.timing.cold_start_seconds), _LONGEST_WINDOW_SECONDS)
    target = kinds.LEADER_WORKER_SET
    return stamp({
        "apiVersion": kinds.HORIZONTAL_POD_AUTOSCALER.api_version,
        "kind": kinds.HORIZONTAL_POD_AUTOSCALER.kind,
        "metadata": {"name": spec.name, "namespace": spec.namespace, "labels": {names.MODEL_LABEL: spec.name}},
        "spec": {
            "scaleTargetRef": {"apiVersion": target.api_version, "kind": target.kind, "name": lws},
            "minReplicas": scaling.min_groups,
            "maxReplicas": scaling.max_groups,
            "metrics": [{
                "type": "Pods",
                "pods": {
                    "metric": {"name": scaling.metric},
                    "target": {"type": "AverageValue", "averageValue": str(scaling.waiting_requests)},
                },
            }],
            "behavior": {
                "scaleUp": {"stabilizationWindowSeconds": 0},
                "scaleDown": {
                    "stabilizationWindowSeconds": idle_seconds,
                    "policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}],
                },
            },
        },
    })  # fmt: skip
