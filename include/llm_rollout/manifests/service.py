"""The Service in front of a model."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from llm_rollout import kinds, names
from llm_rollout.manifests import stamp
from llm_rollout.manifests.leader_worker_set import PORT_NAME
from llm_rollout.ports import Manifest
from llm_rollout.spec import RolloutSpec

_STEP = "switch_service"

NO_REVISION = "none"
"""The selected revision before the first switch: no pod carries it, since revision ids have 8 letters."""


def service(spec: RolloutSpec, revision_id: str | None) -> Manifest:
    """The Service that sends clients to the leaders of one revision, or to nobody when there is none yet."""
    return _service(spec, spec.service.name, revision_id or NO_REVISION)


def candidate_service(spec: RolloutSpec, revision_id: str) -> Manifest:
    """The Service beside it, by which a share of the requests reaches a candidate."""
    return _service(spec, names.candidate_service_name(spec.service.name), revision_id, {names.STEP_LABEL: _STEP})


def _service(
    spec: RolloutSpec, name: str, revision_id: str, labels: Mapping[str, str] = MappingProxyType({})
) -> Manifest:
    selector = {
        names.MODEL_LABEL: spec.name,
        names.REVISION_LABEL: revision_id,
        names.ROLE_LABEL: "leader",
    }
    return stamp({
        "apiVersion": kinds.SERVICE.api_version,
        "kind": kinds.SERVICE.kind,
        "metadata": {
            "name": name,
            "namespace": spec.namespace,
            "labels": {names.MODEL_LABEL: spec.name, **labels},
        },
        "spec": {
            "selector": selector,
            "ports": [{"name": PORT_NAME, "port": spec.service.port, "targetPort": PORT_NAME, "protocol": "TCP"}],
        },
    })  # fmt: skip
