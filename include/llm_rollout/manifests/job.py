"""The shape of every Job: one container without Kubernetes credentials whose last line of output is its report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from llm_rollout import kinds, names
from llm_rollout.manifests import pods, stamp
from llm_rollout.ports import Manifest
from llm_rollout.spec import RolloutSpec

CONTAINER = "job"
"""The only container of a Job's pod."""

_BACKSTOP_SECONDS = 120
"""A Job outlives the step's own deadline by this much: ending it deletes its pods and with them the evidence, so the
step must have read its logs first. It still ends when nobody is left to read them."""

_USAGE, _PERMANENT, _NO_SPACE = 2, 3, 5


@dataclass(frozen=True)
class Work:
    """What differs between Jobs."""

    name: str
    step: str
    """The step that creates the Job and reads its report."""
    command: list[str]
    deadline_seconds: int
    """The step's own deadline."""
    container: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of the container."""
    pod: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of the pod's spec."""
    job: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of the Job's spec."""
    labels: Mapping[str, str] = field(default_factory=dict)
    pod_annotations: Mapping[str, str] = field(default_factory=dict)


def job(spec: RolloutSpec, work: Work, attempt: str, annotations: Mapping[str, str] | None = None) -> Manifest:
    """A Job that is kept after it ends: a finished one is the proof that the work is done."""
    labels = {names.MODEL_LABEL: spec.name, names.STEP_LABEL: work.step, **work.labels}
    return stamp({
        "apiVersion": kinds.JOB.api_version,
        "kind": kinds.JOB.kind,
        "metadata": {
            "name": work.name,
            "namespace": spec.namespace,
            "labels": labels,
            "annotations": {**(annotations or {}), names.ATTEMPT_ANNOTATION: attempt},
        },
        "spec": {
            "backoffLimit": 2,
            "podFailurePolicy": _POD_FAILURE_POLICY,
            "activeDeadlineSeconds": work.deadline_seconds + _BACKSTOP_SECONDS,
            **work.job,
            "template": _template(spec, work, labels),
        },
    })  # fmt: skip


_POD_FAILURE_POLICY = {
    "rules": [
        {
            # Usage, permanent and no space: trying again cannot help.
            "action": "FailJob",
            "onExitCodes": {"containerName": CONTAINER, "operator": "In", "values": [_USAGE, _PERMANENT, _NO_SPACE]},
        },
        # A drained or lost node is not the work's fault.
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
    ]
}


def _template(spec: RolloutSpec, work: Work, labels: Mapping[str, str]) -> dict[str, Any]:
    annotations = {"annotations": dict(work.pod_annotations)} if work.pod_annotations else {}
    return {
        "metadata": {"labels": dict(labels), **annotations},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "tolerations": pods.TOLERATIONS,
            **work.pod,
            "containers": [
                {"name": CONTAINER, "image": spec.job_image, "command": work.command, **work.container},
            ],
        },
    }
