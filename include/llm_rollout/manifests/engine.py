"""Command lines and environment of the model server, for the leader and the workers of a group."""

from __future__ import annotations

import shlex
from typing import Any

from llm_rollout.manifests.pods import env, env_from_field, model_path, nccl_settings
from llm_rollout.spec import RolloutSpec

_RAY_SCRIPT = "/vllm-workspace/examples/ray_serving/multi-node-serving.sh"
"""Where vLLM's images keep the script that starts or joins a Ray cluster (0.33)."""


def leader_command(spec: RolloutSpec, commit: str) -> list[str]:
    """The command of the pod that serves the API."""
    serve = [*_serve(spec, commit), "--host=0.0.0.0", f"--port={spec.server.port}"]
    if spec.server.executor == "mp":
        return [*serve, *_mp_group(spec)]
    serve.append("--distributed-executor-backend=ray")
    if spec.server.nodes_per_group == 1:
        return serve
    return _ray("leader", "--ray_cluster_size=$LWS_GROUP_SIZE", spec, serve)


def worker_command(spec: RolloutSpec, commit: str) -> list[str]:
    """The command of the other pods: the same engine without an API, or a Ray node that the leader's engine uses."""
    if spec.server.executor == "mp":
        return [*_serve(spec, commit), *_mp_group(spec), "--headless"]
    return _ray("worker", "--ray_address=$LWS_LEADER_ADDRESS", spec, [])


def environment(spec: RolloutSpec) -> list[dict[str, Any]]:
    """The environment, the same on every node of a group. LeaderWorkerSet adds LWS_* itself.

    The engine's own start-up limit (600 s unless set) must not end a cold start that the spec allows.
    """
    settings = {
        "HF_HUB_OFFLINE": "1",
        "VLLM_ENGINE_READY_TIMEOUT_S": str(spec.timing.cold_start_seconds),
        **nccl_settings(spec.server.network),
        **spec.server.env,
    }
    return [env_from_field("VLLM_HOST_IP", "status.podIP"), *env(settings)]


def _serve(spec: RolloutSpec, commit: str) -> list[str]:
    """Engine flags, which must be the same on every node or ranks disagree about the model.

    NCCL's limit (600 s unless set) runs while the slowest node still loads, so it gets the whole cold start.
    """
    server = spec.server
    flags = {
        "served-model-name": spec.served_name,
        "tensor-parallel-size": server.tensor_parallel,
        "pipeline-parallel-size": server.pipeline_parallel,
        "gpu-memory-utilization": server.gpu_memory_utilization,
        "distributed-timeout-seconds": spec.timing.cold_start_seconds,
        "shutdown-timeout": spec.timing.drain_seconds,
    }
    if server.max_model_len is not None:
        flags["max-model-len"] = server.max_model_len
    named = [f"--{flag}={value}" for flag, value in flags.items()]
    return ["vllm", "serve", model_path(spec, commit), *named, *server.extra_args]


def _mp_group(spec: RolloutSpec) -> list[str]:
    """How the nodes of a group find each other. Kubernetes expands $(LWS_*), which LeaderWorkerSet sets."""
    if spec.server.nodes_per_group == 1:
        return []
    return [
        "--nnodes=$(LWS_GROUP_SIZE)",
        "--node-rank=$(LWS_WORKER_INDEX)",
        "--master-addr=$(LWS_LEADER_ADDRESS)",
    ]


def _ray(role: str, address: str, spec: RolloutSpec, serve: list[str]) -> list[str]:
    """Join the Ray cluster and only then serve: after a failed join the engine would wait for GPUs that never come."""
    join = f"bash {_RAY_SCRIPT} {role} {address} --ray_init_timeout={spec.timing.cold_start_seconds}"
    return ["sh", "-c", f"{join} && exec {shlex.join(serve)}" if serve else join]
