"""The Service in front of a model."""

from __future__ import annotations

from llm_rollout import kinds, names
from llm_rollout.manifests import stamp
from llm_rollout.manifests.leader_worker_set import PORT_NAME
from llm_rollout.ports import Manifest
from llm_rollout.spec import RolloutSpec

NO_REVISION = "none"
"""The selected revision before the first switch: no pod carries it, since revision ids have 8 letters."""


def service(spec: RolloutSpec, revision_id: str | None) -> Manifest:
    """The Service that sends clients to the leaders of one revision, or to nobody when there is none yet."""
    selector = {
        names.MODEL_LABEL: spec.name,
        names.REVISION_LABEL: revision_id or NO_REVISION,
        names.ROLE_LABEL: "leader",
    }
    return stamp({
        "apiVersion": kinds.SERVICE.api_version,
        "kind": kinds.SERVICE.kind,
        "metadata": {
            "name": spec.service.name,
            "namespace": spec.namespace,
            "labels": {names.MODEL_LABEL: spec.name},
        },
        "spec": {
            "selector": selector,
            "ports": [{"name": PORT_NAME, "port": spec.service.port, "targetPort": PORT_NAME, "protocol": "TCP"}],
        },
    })  # fmt: skip
