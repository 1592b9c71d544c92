"""Pods, events and logs of starts, as the cluster shows them; ``BORN`` is when the pods were created."""

from __future__ import annotations

from llm_rollout import clock
from llm_rollout.coldstart.lives import Life

BORN = clock.seconds("2026-11-24T10:00:00Z")
MODEL = "chat-aaaaaaaa"


def at(seconds):
    return clock.rfc3339(BORN + seconds)


def running(since=2):
    return {"state": {"running": {"startedAt": at(since)}}}


def waiting(reason, message=""):
    return {"state": {"waiting": {"reason": reason, "message": message}}}


def ended(code, seconds, reason="Error"):
    return {
        "state": {"terminated": {"exitCode": code, "reason": reason, "startedAt": at(2), "finishedAt": at(seconds)}}
    }


def restarted(code, seconds, reason="Error"):
    return {**running(seconds + 1), "lastState": ended(code, seconds, reason)["state"]}


def pod(index=0, state=None, *, placed=1.0, acknowledged=None, restarts=0, **status):
    """Rank ``index`` of group 0. Not placed where ``placed`` is None; ``acknowledged`` is the node's own clock."""
    name = f"{MODEL}-0" if index == 0 else f"{MODEL}-0-{index}"
    labels = {
        "llm-rollout.dev/role": "leader" if index == 0 else "worker",
        "leaderworkerset.sigs.k8s.io/group-index": "0",
    }
    condition = {"type": "PodScheduled", "status": "True", "lastTransitionTime": at(placed or 0)}
    if placed is None:
        condition |= {"status": "False", "reason": "Unschedulable", "message": status.pop("message", "0/6 nodes")}
    container = {"name": "vllm", "restartCount": restarts, **(state or waiting("ContainerCreating"))}
    conditions = [condition, *status.pop("conditions", [])]
    whole = {
        "phase": "Pending", "conditions": conditions, "containerStatuses": [container],
        "startTime": at((placed or 0) if acknowledged is None else acknowledged),
    }  # fmt: skip
    return {
        "metadata": {
            "name": name, "uid": f"uid-{index}", "labels": labels, "creationTimestamp": at(0),
            **status.pop("metadata", {}),
        },
        "spec": {} if placed is None else {"nodeName": f"node-{index + 1}"},
        "status": {**whole, **status},
    }  # fmt: skip


def life(index=0, state=None, log=(), *, gone=False, **changes):
    """A life with its log: pairs of seconds after ``BORN`` and what was printed."""
    found = pod(index, state, **changes)
    text = "".join(f"{at(seconds)} {line}\n" for seconds, line in log)
    return Life(found, changes.get("restarts", 0), text, gone)


def event(index, reason, message="", first=3.0, last=None, kind="Pod"):
    name = (f"{MODEL}-0" if index == 0 else f"{MODEL}-0-{index}") if kind == "Pod" else MODEL
    about = {"kind": kind, "name": name, **({"uid": f"uid-{index}"} if kind == "Pod" else {})}
    return {
        "involvedObject": about, "reason": reason, "message": message, "metadata": {}, "type": "Warning",
        "firstTimestamp": at(first), "lastTimestamp": at(first if last is None else last),
    }  # fmt: skip


BANNER = "(APIServer pid=7) INFO 11-24 10:00:03 [startup.py:28] vLLM API server version 0.33.0, model /models/x"
JOINS = (
    "(Worker pid=9) INFO 11-24 10:00:04 [parallel_state.py:1208] world_size=2 rank=0 local_rank=0 "
    "distributed_init_method=tcp://chat:29501 backend=nccl"
)
LOADS = "(Worker pid=9) INFO 11-24 10:00:05 [gpu_model_runner.py:3551] Starting to load model /models/x..."
COMPILES = "(Worker pid=9) INFO 11-24 10:00:06 [backends.py:704] Dynamo bytecode transform time: 3.00 s"
CACHE = "(Worker pid=9) INFO 11-24 10:00:07 [gpu_worker.py:359] Available KV cache memory: 30.00 GiB"
UP = (
    "(EngineCore pid=8) INFO 11-24 10:00:08 [core.py:210] init engine (profile, create kv cache, warmup model) took 9 s"
)
SERVES = "(APIServer pid=7) INFO:     Application startup complete."


def shards(done, total=100):
    return (
        f"Loading safetensors checkpoint shards: {100 * done // total:3d}% Completed | {done}/{total} "
        "[00:01<00:09, 1.00it/s]"
    )
