"""The closed words of a cold start: phases, classes of causes, and what is said with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

CLUSTER_PHASES: Final = ("scheduling", "volumes", "image_pull")
"""What the cluster does before a container runs, in this order."""
LOG_PHASES: Final = (
    "process", "rendezvous", "weights", "compile", "kv_cache", "graph_capture", "engine_up", "serving", "stopped",
)  # fmt: skip
"""What an engine's log shows, in this order; ``stopped`` after an end that was asked for."""
PHASES: Final = (*CLUSTER_PHASES, *LOG_PHASES)

LOG_CLASSES: Final = frozenset({
    "GPU_OOM", "GPU_BUSY", "HOST_MEMORY", "KV_TOO_SMALL", "BAD_MAX_LEN", "BAD_FLAG", "PARALLEL_CFG", "FLAGS_DISAGREE",
    "MODEL_REF", "MODEL_UNSUPPORTED", "CONFIG_BROKEN", "TOKENIZER", "WEIGHTS_MISSING", "WEIGHTS_CORRUPT",
    "WEIGHTS_MISMATCH", "PERMISSION", "PORT_IN_USE", "MISSING_DEPENDENCY", "NCCL", "RENDEZVOUS", "PEER_LOST",
    "RAY_WAIT", "RAY_FAIL", "TIMEOUT", "ENGINE_BUG", "TERMINATED", "UNKNOWN",
})  # fmt: skip
"""What a log alone can show."""
CLUSTER_CLASSES: Final = frozenset({
    "SCHEDULING", "QUOTA", "IMAGE", "VOLUME", "SECRET", "NODE_LOST", "EVICTED", "PROBE_KILLED", "STALLED",
})  # fmt: skip
"""What only the cluster can show. A container that was killed for its memory is HOST_MEMORY, as in a log."""
MAY_PASS: Final = frozenset({
    "GPU_BUSY", "HOST_MEMORY", "PORT_IN_USE", "NCCL", "RENDEZVOUS", "PEER_LOST", "RAY_WAIT", "TIMEOUT", "ENGINE_BUG",
    "TERMINATED", "UNKNOWN", "NODE_LOST", "EVICTED",
})  # fmt: skip
"""Causes that another start may not meet again. All others never heal: a wrong flag stays wrong."""
CONSEQUENCES: Final = frozenset({"PEER_LOST", "RENDEZVOUS", "TIMEOUT", "TERMINATED", "UNKNOWN"})
"""What ranks say when another one failed: never the first cause where any other class is known."""


@dataclass(frozen=True)
class Progress:
    """How far a phase is. ``done`` of ``total`` are what the log counts: shards, files, graphs."""

    percent: float
    done: int | None = None
    total: int | None = None


@dataclass(frozen=True)
class Cause:
    """Why a start failed."""

    class_name: str
    """One of ``LOG_CLASSES`` or ``CLUSTER_CLASSES``."""
    message: str
    """The engine's or the cluster's own words, on one line."""
    remedy: str
    """What to do about it, in terms of the spec's fields."""
    line: int | None = None
    """In the log, from 1; None when the cluster said it."""
    at: float | None = None
    """Seconds since the epoch, where it is known."""
    source: str = ""
    """The pod or the file that it was read from."""
    in_worker: bool = False
    """Whether a worker process said it: of errors of one second, those of the engine core follow from it."""


@dataclass(frozen=True)
class Reading:
    """What one log shows."""

    phase: str | None
    """The last phase that it reached; None before the first sign of one."""
    progress: Progress | None
    """Of ``phase``."""
    cause: Cause | None
    last_line: str
    """The last line that says something."""
    moved_at: float | None = None
    """When the last line came that shows progress, in seconds since the epoch; None without timestamps."""
