"""What everybody who measures the fabric has in common: the gate of a rollout, the nightly measurement, the command.

The Job that measures says itself what its report is about, so that whoever reads the report later need not guess.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llm_rollout import clock, kinds, measurements, names
from llm_rollout.manifests.fabric_job import OF_THE_JUDGE, fabric_job
from llm_rollout.measurements import Measurement
from llm_rollout.ports import Manifest, Ports
from llm_rollout.spec import RolloutSpec
from llm_rollout.steps import jobs, pod_state

STEP = "validate_rdma"
"""What the label of every Job and pod that measures says, whoever started it."""
_NOT_MEASURED = OF_THE_JUDGE | {"deadline_seconds"}
"""Fields of the spec's ``fabric`` that do not change a report; a Job with another deadline is another Job."""


@dataclass(frozen=True)
class Note:
    """A report to keep."""

    namespace: str
    model: str
    measurement: Measurement


@dataclass(frozen=True)
class Remove:
    """Jobs that measured, to be deleted with the Services that named their pods."""

    jobs: tuple[Manifest, ...]


def boots(nodes: Iterable[Manifest], wanted: Iterable[str]) -> dict[str, str]:
    """The boot id of each wanted node, empty where it is not told: such a node is never taken as unchanged."""
    ids = {node["metadata"]["name"]: str(_info(node).get("bootID", "")) for node in nodes}
    return {name: ids.get(name, "") for name in wanted}


def settings(spec: RolloutSpec, attached: Sequence[Manifest]) -> str:
    """Digest of what a measurement depends on besides the nodes."""
    return names.digest({
        "namespace": spec.namespace,
        "network": spec.server.network.model_dump(mode="json"),
        "attached": [[one["metadata"]["name"], one.get("spec"), _provider(one)] for one in attached],
        "fabric": spec.fabric.model_dump(mode="json", exclude=_NOT_MEASURED),
        "image": spec.job_image,
    })  # fmt: skip


def manifests(spec: RolloutSpec, nodes: Mapping[str, str], digest: str, attempt: str) -> tuple[Manifest, ...]:
    """The Service and the Job that measures ``nodes`` (names with boot ids), the Job last."""
    *others, job = fabric_job(spec, tuple(nodes), attempt)
    about = json.dumps({"nodes": dict(nodes), "settings": digest}, sort_keys=True)
    metadata = {**job["metadata"], "annotations": {**job["metadata"]["annotations"], names.MEASURES_ANNOTATION: about}}
    return (*others, {**job, "metadata": metadata})


def measured(job: Manifest, report: Mapping[str, Any], now: float) -> Measurement | None:
    """What a finished Job found, as it is kept; None when it does not say what it is about."""
    try:
        about = json.loads(jobs.annotation(job, names.MEASURES_ANNOTATION))
    except ValueError:
        return None
    ended = pod_state.condition(job, "Complete").get("lastTransitionTime") or job["status"].get("completionTime")
    return Measurement(
        at=clock.seconds(ended) or now,
        attempt=jobs.attempt_of(job),
        job=job["metadata"]["uid"],
        nodes=about["nodes"],
        settings=about["settings"],
        verdict=report["verdict"],
        transport=report["transport"],
        sentence=report["sentence"],
        bad=tuple(report.get("bad", ())),
    )


def nodes_of(job: Manifest) -> frozenset[str]:
    """The nodes that a Job measures."""
    try:
        return frozenset(json.loads(jobs.annotation(job, names.MEASURES_ANNOTATION))["nodes"])
    except ValueError:
        return frozenset()


def has_ended(job: Manifest) -> bool:
    """Whether it succeeded or failed."""
    return pod_state.holds(job, "Complete") or pod_state.holds(job, "Failed")


def act(plan: object, ports: Ports) -> None:
    """Carry a ``Note``, a ``Remove`` or what a Job's step asks for out."""
    if isinstance(plan, Note):
        measurements.note(ports.cluster, plan.namespace, plan.model, plan.measurement)
    elif isinstance(plan, Remove):
        for job in plan.jobs:
            _remove(job, ports)
    else:
        jobs.act(plan, ports)


def _remove(job: Manifest, ports: Ports) -> None:
    """The Service first: a Job that is gone is not found again, and its Service would stay."""
    namespace, name = job["metadata"]["namespace"], job["metadata"]["name"]
    service = ports.cluster.get(kinds.SERVICE, namespace, name)
    if service is not None and service["metadata"].get("labels", {}).get(names.STEP_LABEL) == STEP:
        ports.cluster.delete(kinds.SERVICE, namespace, name, service["metadata"]["uid"])
    ports.cluster.delete(kinds.JOB, namespace, name, job["metadata"]["uid"])


def _info(node: Manifest) -> Mapping[str, Any]:
    found: Mapping[str, Any] = node.get("status", {}).get("nodeInfo", {})
    return found


def _provider(attachment: Manifest) -> Any:
    return attachment["metadata"].get("annotations", {}).get("k8s.v1.cni.cncf.io/resourceName")
