"""The table: every way in which a cold start fails here, the first cause that is right, and what shows it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Manifest = dict[str, Any]
LEADER, WORKER = "leader", "worker"
_CONTAINER = "vllm"
_SHARD = "model-00004-of-00005.safetensors"
"""Of the last decoder layers, so that the second rank reads it as well."""
_LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 1048576\n"


@dataclass(frozen=True)
class Failure:
    """One row."""

    causes: tuple[str, ...]
    """The classes that are right: one, or the few that say the same of an end without words."""
    first: str
    """The rank that failed first: leader, worker, or empty where either may be named."""
    shown_by: str = "end"
    """What shows it: the end of a container, the reason of an event, or ``silence``."""
    kept: str = ""
    """Words of the evidence that must outlive the pods."""
    env: Mapping[str, str] = field(default_factory=dict)
    faults: tuple[tuple[str, ...], ...] = ()
    """Arguments of ``devcluster fault add``; {pods} stands for the failing rank's pods."""
    change: Callable[[Manifest], None] | None = None
    """What an admission webhook of the cluster would make of the LeaderWorkerSet."""
    spoil: Callable[[Path], None] | None = None
    """What is wrong in the model's folder."""
    extra_args: tuple[str, ...] = ()
    patience: Mapping[str, int] = field(default_factory=dict)
    quota_pods: int | None = None
    fails_node: bool = False


def wanted(name: str, rank: str, kept: str, phase: str = "") -> Failure:
    """A failure that the engine is asked for, in its own words."""
    fail = f"{name}@{phase}" if phase else name
    return Failure((name,), rank, kept=kept, env={"STANDIN_FAIL": fail, "STANDIN_FAIL_RANK": str(int(rank == WORKER))})


def hang(phase: str, rank: str, kept: str) -> Failure:
    """A rank that reaches a phase and then gets nowhere."""
    env = {"STANDIN_HANG": phase, "STANDIN_FAIL_RANK": str(int(rank == WORKER))}
    return Failure(("STALLED",), rank, "silence", kept=kept, env=env, patience={phase: 5})


def struck(kind: str, rank: str, *causes: str, said: str = "", shown_by: str = "end", kept: str = "") -> Failure:
    """A fault of the node that a pod of this rank is on."""
    when = ("--said", said) if said else ()
    return Failure(
        causes, rank, shown_by, kept=kept, faults=((kind, "{pods}", *when),), env={"STANDIN_LOAD_SECONDS": "2"}
    )


def spoilt(cause: str, spoil: Callable[[Path], None], kept: str, rank: str = "") -> Failure:
    """A broken model: every rank that reads the broken file finds it."""
    return Failure((cause,), rank, kept=kept, spoil=spoil)


def changed(cause: str, rank: str, change: Callable[[Manifest], None], kept: str, shown_by: str = "end") -> Failure:
    """A LeaderWorkerSet that somebody else's webhook has changed."""
    return Failure((cause,), rank, shown_by, kept=kept, change=change)


def flags(template: str, *more: str) -> Callable[[Manifest], None]:
    """Append flags to one role's command; the last of a flag counts."""

    def change(manifest: Manifest) -> None:
        _container(manifest, template)["command"] += more

    return change


def _taken_port(manifest: Manifest) -> None:
    container = _container(manifest, LEADER)
    taken = "python3 -c 'import socket,time; s=socket.create_server((\"\", 8000)); time.sleep(9999)' & sleep 1"
    container["command"] = ["sh", "-c", f'{taken}; exec "$@"', "sh", *container["command"]]


def _no_claim(manifest: Manifest) -> None:
    for role in (LEADER, WORKER):
        volumes = _pod(manifest, role)["volumes"]
        next(one for one in volumes if "persistentVolumeClaim" in one)["persistentVolumeClaim"]["claimName"] = "nosuch"


def _no_secret(manifest: Manifest) -> None:
    source = {"secretKeyRef": {"name": "hub-token", "key": "HF_TOKEN"}}
    _container(manifest, WORKER)["env"].append({"name": "HF_TOKEN", "valueFrom": source})


def _wrong_secret_volume(manifest: Manifest) -> None:
    pod = _pod(manifest, LEADER)
    pod["volumes"].append({"name": "token", "secret": {"secretName": "hub-token"}})
    _container(manifest, LEADER)["volumeMounts"].append({"name": "token", "mountPath": "/token"})


def _pod(manifest: Manifest, role: str) -> Manifest:
    found: Manifest = manifest["spec"]["leaderWorkerTemplate"][f"{role}Template"]["spec"]
    return found


def _container(manifest: Manifest, role: str) -> Manifest:
    found: Manifest = next(one for one in _pod(manifest, role)["containers"] if one["name"] == _CONTAINER)
    return found


def write(name: str, content: bytes) -> Callable[[Path], None]:
    """Replace a file of the model; the others are shared with other models and must not change."""

    def spoil(model: Path) -> None:
        (model / name).unlink()
        (model / name).write_bytes(content)

    return spoil


def cut(name: str) -> Callable[[Path], None]:
    """Leave out the end of a file."""
    return lambda model: write(name, (model / name).read_bytes()[:-1000])(model)


def swap(name: str, old: bytes, new: bytes) -> Callable[[Path], None]:
    """Replace words in a file."""

    def spoil(model: Path) -> None:
        content = (model / name).read_bytes()
        assert old in content, f"{name} of the model has no {old!r}"  # noqa: S101 - else the row would fail nothing
        write(name, content.replace(old, new))(model)

    return spoil


def remove(name: str) -> Callable[[Path], None]:
    """Delete a file."""
    return lambda model: (model / name).unlink()


_LOADING = "Starting to load model"
_DTYPE = "--dtype=float16"
_ALONE = "imed out after 4"
"""The leader's 4 seconds of waiting, or the worker's 4000ms of calling: whoever gave up first says so."""
_SHORT = "--distributed-timeout-seconds=4"

TABLE: Mapping[str, Failure] = {
    "GPU memory, weights, worker": wanted("GPU_OOM", WORKER, "CUDA out of memory"),
    "GPU memory, weights, leader": wanted("GPU_OOM", LEADER, "CUDA out of memory"),
    "GPU memory, graphs, worker": wanted("GPU_OOM", WORKER, "CUDA out of memory", "graph_capture"),
    "GPU memory, KV cache, leader": wanted("GPU_OOM", LEADER, "CUDA out of memory", "kv_cache"),
    "GPU taken by another, worker": wanted("GPU_BUSY", WORKER, "Free memory on device"),
    "host memory, weights, leader": wanted("HOST_MEMORY", LEADER, "can't allocate memory"),
    "OOM-killed while loading, worker": struck("oom", WORKER, "HOST_MEMORY", said=_LOADING, kept=_LOADING),
    "OOM-killed while loading, leader": struck("oom", LEADER, "HOST_MEMORY", said=_LOADING, kept=_LOADING),
    "no room for the KV cache, leader": wanted("KV_TOO_SMALL", LEADER, "No available memory for the cache blocks"),
    "length beyond the model, both": Failure(
        ("BAD_MAX_LEN",), "", kept="greater than the derived max_model_len", extra_args=("--max-model-len=999999",)
    ),
    "unknown flag, worker": changed("BAD_FLAG", WORKER, flags(WORKER, "--no-such-flag"), "unrecognized arguments"),
    "unknown choice, leader": changed("BAD_FLAG", LEADER, flags(LEADER, "--load-format=pigeon"), "invalid choice"),
    "nodes do not divide the ranks, worker": changed(
        "PARALLEL_CFG", WORKER, flags(WORKER, "--nnodes=3"), "must evenly divide the total world size"
    ),
    "ranks with another dtype, leader sees it": changed(
        "FLAGS_DISAGREE", LEADER, flags(WORKER, _DTYPE), "KV cache specs for the same layer are different"
    ),
    "no config.json, both": spoilt("MODEL_REF", remove("config.json"), "Invalid repository ID or local directory"),
    "unknown architecture, both": spoilt(
        "MODEL_UNSUPPORTED", swap("config.json", b"LlamaForCausalLM", b"OtherForCausalLM"), "are not supported for now"
    ),
    "broken config.json, both": spoilt("CONFIG_BROKEN", write("config.json", b"{"), "is not a valid JSON file"),
    "no tokenizer, leader": spoilt("TOKENIZER", remove("tokenizer.json"), "backend tokenizer", LEADER),
    "missing shard, both": spoilt("WEIGHTS_MISSING", remove(_SHARD), "referenced in index but missing"),
    "LFS pointer for a shard, both": spoilt("WEIGHTS_CORRUPT", write(_SHARD, _LFS_POINTER), "header too large"),
    "empty shard, both": spoilt("WEIGHTS_CORRUPT", write(_SHARD, b""), "header too small"),
    "truncated shard, both": spoilt("WEIGHTS_CORRUPT", cut(_SHARD), "incomplete metadata, file not fully covered"),
    "other shapes, both": spoilt(
        "WEIGHTS_MISMATCH", swap("config.json", b'"intermediate_size": 256', b'"intermediate_size": 128'),
        "Attempted to load weight",
    ),
    "permission on the claim, worker": wanted("PERMISSION", WORKER, "Permission denied"),
    "port in use, leader": changed("PORT_IN_USE", LEADER, _taken_port, "Address already in use"),
    "missing library, worker": wanted("MISSING_DEPENDENCY", WORKER, "libcuda.so.1"),
    "NCCL, rendezvous, worker": wanted("NCCL", WORKER, "NCCL error"),
    "NCCL, KV cache, leader": wanted("NCCL", LEADER, "NCCL error", "kv_cache"),
    "leader's name does not resolve, worker": Failure(
        ("RENDEZVOUS",), "", kept=_ALONE, extra_args=(_SHORT,), change=flags(WORKER, "--master-addr=nowhere")
    ),
    "wrong master port, worker": Failure(
        ("RENDEZVOUS",), "", kept=_ALONE, extra_args=(_SHORT,), change=flags(WORKER, "--master-port=29999")
    ),
    "killed while loading, worker": struck("kill", WORKER, "UNKNOWN", "PEER_LOST", said=_LOADING, kept=_LOADING),
    "killed in rendezvous, leader": struck("kill", LEADER, "UNKNOWN", "PEER_LOST", said="world_size=", kept="version"),
    "Ray without GPUs, leader": wanted("RAY_WAIT", LEADER, "Cannot provide a placement group"),
    "Ray is missing, leader": wanted("RAY_FAIL", LEADER, "Failed to import Ray"),
    "engine's own timeout, leader": wanted("TIMEOUT", LEADER, "Timed out waiting for engine core processes"),
    "assertion in the engine, worker": wanted("ENGINE_BUG", WORKER, "AssertionError"),
    "unknown exception, worker": wanted("UNKNOWN", WORKER, "KeyError: 'tile_m'"),
    "stall while loading, worker": hang("weights", WORKER, _LOADING),
    "stall at the graphs, leader": hang("graph_capture", LEADER, "Profiling CUDA graph memory"),
    "no node takes the pod, worker": struck(
        "unschedulable", WORKER, "SCHEDULING", shown_by="FailedScheduling", kept="nodes are available"
    ),
    "quota, worker": Failure(("QUOTA",), "", "FailedCreate", kept="exceeded quota", quota_pods=1),
    "no such image, worker": struck("image_pull", WORKER, "IMAGE", shown_by="Failed", kept="not found"),
    "registry wants a login, leader": struck("image_denied", LEADER, "IMAGE", shown_by="Failed", kept="access denied"),
    "no such claim, both": changed("VOLUME", "", _no_claim, 'persistentvolumeclaim \\"nosuch\\"', "FailedScheduling"),
    "storage does not answer, worker": Failure(
        ("VOLUME",), WORKER, "FailedMount", kept="Connection timed out", faults=(("mount", "{pods}"),),
        patience={"volumes": 5},
    ),
    "no such secret in the environment, worker": changed("SECRET", WORKER, _no_secret, "hub-token", "Failed"),
    "no such secret to mount, leader": changed("SECRET", LEADER, _wrong_secret_volume, "hub-token", "FailedMount"),
    "evicted while loading, worker": struck(
        "evict", WORKER, "EVICTED", said=_LOADING, shown_by="Evicted", kept="low on resource"
    ),
    "startup probe too short, leader": struck(
        "startup_probe", LEADER, "PROBE_KILLED", said=_LOADING, shown_by="Killing", kept="failed startup probe"
    ),
    "node lost while loading, worker": Failure(
        ("NODE_LOST",), WORKER, "NodeNotReady", kept="is not ready", env={"STANDIN_LOAD_SECONDS": "60"}, fails_node=True
    ),
}  # fmt: skip
"""Beside these, ``TERMINATED`` is no failure, and a registry that does not answer gets a minute before it counts."""
