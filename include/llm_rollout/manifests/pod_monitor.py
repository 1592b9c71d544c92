"""The PodMonitor by which Prometheus reads the leaders' metrics."""

from __future__ import annotations

from llm_rollout import kinds, names
from llm_rollout.manifests import stamp
from llm_rollout.manifests.leader_worker_set import PORT_NAME
from llm_rollout.ports import Manifest
from llm_rollout.spec import RolloutSpec


def pod_monitor(spec: RolloutSpec) -> Manifest:
    """One monitor over all revisions; the revision is a label of the series, so stable and candidate can be compared.

    Pods, not Services: the headless Service of a LeaderWorkerSet has no ports, so a ServiceMonitor finds no target.
    """
    return stamp({
        "apiVersion": kinds.POD_MONITOR.api_version,
        "kind": kinds.POD_MONITOR.kind,
        "metadata": {"name": spec.name, "namespace": spec.namespace, "labels": {names.MODEL_LABEL: spec.name}},
        "spec": {
            "selector": {"matchLabels": {names.MODEL_LABEL: spec.name, names.ROLE_LABEL: "leader"}},
            "podTargetLabels": [names.MODEL_LABEL, names.REVISION_LABEL],
            "podMetricsEndpoints": [{"port": PORT_NAME, "path": "/metrics", "interval": "15s"}],
        },
    })  # fmt: skip
