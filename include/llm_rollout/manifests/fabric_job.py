"""The Job that measures the fabric between the nodes that will serve, and the Service that names its pods."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llm_rollout import kinds, names
from llm_rollout.manifests import pods, stamp
from llm_rollout.manifests.job import Work, job
from llm_rollout.ports import Manifest
from llm_rollout.spec import RolloutSpec

PORT = 18500
"""The probe's coordinator listens here, the measurements on the ports above it, one for each HCA."""
NCCL_COMMAND = "nccl-check"
"""A program that the Job's image must bring where ``fabric.nccl`` is set: see ``llm-rollout probe --help``."""
_REPORT_SECONDS = 30
"""What the probe gets to report before the step's own deadline."""
NETWORK_STATUS = "k8s.v1.cni.cncf.io/network-status"
"""The annotation in which Multus tells what it attached."""
OF_THE_JUDGE = {"accept_transports", "accept_degraded", "hidden_size", "cache_hours", "replan"}
"""Fields of the spec's fabric part that change what is made of a measurement, not the measurement."""
_JOB_NAME_LABEL = "batch.kubernetes.io/job-name"


_ANNOTATIONS_FOLDER = "/etc/pod-annotations"
_ANNOTATIONS_MOUNT = {"name": "annotations", "mountPath": _ANNOTATIONS_FOLDER, "readOnly": True}
_ANNOTATIONS = {
    "name": "annotations",
    "downwardAPI": {
        "items": [
            {"path": path, "fieldRef": {"fieldPath": f"metadata.annotations['{annotation}']"}}
            for path, annotation in (("networks", pods.NETWORKS_ANNOTATION), ("network-status", NETWORK_STATUS))
        ]
    },
}
"""What was asked for and what Multus attached, as files that the probe compares."""


def fabric_job(spec: RolloutSpec, nodes: Sequence[str], attempt: str) -> list[Manifest]:
    """A headless Service and an Indexed Job of the same name, one pod on each of ``nodes``."""
    name = names.validate_job_name(spec.name, _fingerprint(spec, nodes))
    network = spec.server.network
    work = Work(
        name=name,
        step="validate_rdma",
        command=_command(spec, name, len(nodes)),
        deadline_seconds=spec.fabric.deadline_seconds,
        container={
            "env": [pods.env_from_field("NODE_NAME", "spec.nodeName"), *pods.env(pods.nccl_settings(network))],
            "resources": {"requests": {"cpu": "2", "memory": "2Gi"}, "limits": _limits(spec)},
            **pods.network_security(network),
            **({"volumeMounts": [_ANNOTATIONS_MOUNT]} if network.attachments else {}),
        },
        pod={
            "subdomain": name,
            "affinity": _one_each(name, nodes),
            **({"volumes": [_ANNOTATIONS]} if network.attachments else {}),
        },
        job={"completionMode": "Indexed", "completions": len(nodes), "parallelism": len(nodes)},
        pod_annotations=pods.network_annotations(network),
    )
    return [_headless_service(spec, name), job(spec, work, attempt)]


def _fingerprint(spec: RolloutSpec, nodes: Sequence[str]) -> dict[str, Any]:
    """Everything that a measurement depends on: change any of it and an old report does not count."""
    return {
        "nodes": sorted(nodes),
        "network": spec.server.network.model_dump(mode="json"),
        "fabric": spec.fabric.model_dump(mode="json", exclude=OF_THE_JUDGE),
        "image": spec.job_image,
    }


def _command(spec: RolloutSpec, name: str, peers: int) -> list[str]:
    fabric = spec.fabric
    measuring_seconds = max(fabric.deadline_seconds - _REPORT_SECONDS, fabric.deadline_seconds // 2)
    return [
        "llm-rollout",
        "probe",
        f"--peers={peers}",
        f"--subdomain={name}.{spec.namespace}",
        f"--port={PORT}",
        *(f"--hca={hca}" for hca in spec.server.network.hcas),
        f"--min-fraction={fabric.min_fraction_of_rate}",
        f"--warn-fraction={fabric.warn_fraction_of_rate}",
        f"--max-latency-usec={fabric.max_latency_usec}",
        f"--seconds-per-pair={fabric.seconds_per_pair}",
        f"--attempts={fabric.attempts}",
        f"--deadline-seconds={measuring_seconds}",
        *_traffic(spec),
        *([f"--nccl-command={NCCL_COMMAND}"] if fabric.nccl else []),
        *([f"--annotations={_ANNOTATIONS_FOLDER}"] if spec.server.network.attachments else []),
    ]


def _limits(spec: RolloutSpec) -> dict[str, int]:
    """As the model's pods; GPUs only where NCCL is to run, so that the fabric can be measured beside a full node."""
    gpus = {"nvidia.com/gpu": spec.server.gpus_per_node} if spec.fabric.nccl else {}
    return {**gpus, **pods.network_limits(spec.server.network)}


def _traffic(spec: RolloutSpec) -> list[str]:
    """As the model's: what the spec says of the fabric, else what it tells NCCL, else the tools' own."""
    fabric, nccl = spec.fabric, spec.server.network.nccl_env
    values = {
        "--queue-pairs": fabric.queue_pairs,
        "--traffic-class": nccl.get("NCCL_IB_TC") if fabric.traffic_class is None else fabric.traffic_class,
        "--service-level": nccl.get("NCCL_IB_SL") if fabric.service_level is None else fabric.service_level,
        "--gid-index": nccl.get("NCCL_IB_GID_INDEX"),
    }
    return [f"{flag}={value}" for flag, value in values.items() if str(value).isdigit()]


def _one_each(name: str, nodes: Sequence[str]) -> dict[str, Any]:
    apart = {"labelSelector": {"matchLabels": {_JOB_NAME_LABEL: name}}, "topologyKey": pods.HOSTNAME_LABEL}
    return {
        "nodeAffinity": pods.on_nodes(nodes),
        "podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [apart]},
    }


def _headless_service(spec: RolloutSpec, name: str) -> Manifest:
    """Names for pods that are not ready yet: the probes look for each other while they start."""
    return stamp({
        "apiVersion": kinds.SERVICE.api_version,
        "kind": kinds.SERVICE.kind,
        "metadata": {
            "name": name,
            "namespace": spec.namespace,
            "labels": {names.MODEL_LABEL: spec.name, names.STEP_LABEL: "validate_rdma"},
        },
        "spec": {"clusterIP": "None", "publishNotReadyAddresses": True, "selector": {_JOB_NAME_LABEL: name}},
    })  # fmt: skip
