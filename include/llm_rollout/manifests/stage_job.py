"""The Job that brings one commit's files onto the model store."""

from __future__ import annotations

from typing import Any

from llm_rollout import names
from llm_rollout.manifests import pods
from llm_rollout.manifests.job import Work, job
from llm_rollout.ports import Manifest
from llm_rollout.spec import RolloutSpec

INCLUDE = ("*.safetensors", "*.json", "*.txt", "*.model", "*.tiktoken", "*.jinja", "*.py")
"""What vLLM reads of a repository: safetensors, configuration, tokenizer, chat template, model code."""
EXCLUDE = ("original/*", "consolidated*", "onnx/*")
"""Second copies of the same weights in other layouts, which would double the bytes."""


def stage_job(spec: RolloutSpec, commit: str, attempt: str) -> Manifest:
    """One download onto the store; names are by commit, so rollouts of the same commit share it."""
    work = Work(
        name=names.stage_job_name(spec.name, commit),
        step="stage_weights",
        command=_command(spec, commit),
        deadline_seconds=spec.timing.staging_seconds,
        container={
            **_token(spec),
            **_source_credentials(spec),
            # Digests are computed while bytes arrive: about one core for each 10 Gbit/s.
            "resources": {"requests": {"cpu": "2", "memory": "2Gi"}},
            "volumeMounts": [pods.store_mount(spec, read_only=False)],
        },
        pod={"volumes": [pods.store_volume(spec)]},
    )
    return job(spec, work, attempt)


def _command(spec: RolloutSpec, commit: str) -> list[str]:
    return [
        "llm-rollout",
        "stage",
        f"--repo={spec.model.repo}",
        f"--revision={commit}",
        f"--store={spec.store.mount_path}",
        f"--endpoint={spec.model.endpoint}",
        *(f"--include={pattern}" for pattern in INCLUDE),
        *(f"--exclude={pattern}" for pattern in EXCLUDE),
    ]


def _token(spec: RolloutSpec) -> dict[str, Any]:
    if spec.model.token_secret is None:
        return {}
    reference = {"secretKeyRef": {"name": spec.model.token_secret, "key": "HF_TOKEN"}}
    return {"env": [{"name": "HF_TOKEN", "valueFrom": reference}]}


def _source_credentials(spec: RolloutSpec) -> dict[str, Any]:
    if spec.model.source_secret is None:
        return {}
    return {"envFrom": [{"secretRef": {"name": spec.model.source_secret}}]}
