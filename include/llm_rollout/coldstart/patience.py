"""How long each phase of a cold start may go without a sign of progress before it counts as stalled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

DEFAULT_SECONDS: Final[Mapping[str, float]] = {
    # The scheduler answers within seconds, and what it refuses is a cause of its own; this is a scheduler that is down.
    "scheduling": 120,
    # A volume is taken from a node that was lost only after six minutes (the attach-detach controller's limit).
    "volumes": 420,
    # 20 GB at 20 MB/s take 1,000 s, and a kubelet says nothing between "Pulling" and "Pulled".
    "image_pull": 1200,
    # Imports of torch and vLLM over a cold page cache or a network disk, configuration, tokenizer.
    "process": 300,
    # All ranks are there: NCCL connects in seconds, gloo tries a lost peer for less than five minutes.
    "rendezvous": 300,
    # One shard of a bar; runtimes pass a bar on only when its line ends, so this may be the load as a whole.
    "weights": 900,
    # One graph takes up to some minutes for the largest models, and each says so when it is compiled.
    "compile": 600,
    "kv_cache": 300,
    # As for weights, the bar may show only at its end; captures take up to some minutes.
    "graph_capture": 600,
    "engine_up": 300,
    # The server listens; the readiness probe asks every few seconds.
    "serving": 120,
}
"""In seconds; ``timing.patience`` of the spec overrides each."""

GAPS = 4.0
"""So many times the longest silence seen so far is never called a stall: steady but slow storage stays steady."""
CLOCKS_SECONDS = 60.0
"""What clocks of nodes, control plane and Airflow may differ without a stall being invented."""


def seconds(phase: str, asked: Mapping[str, float], longest_gap: float) -> float:
    """How long ``phase`` may be silent.

    Args:
        phase: One of ``words.PHASES``.
        asked: ``timing.patience`` of the spec.
        longest_gap: The longest silence between two signs of progress, in this start and in earlier ones, in seconds.
    """
    own = asked.get(phase, DEFAULT_SECONDS.get(phase, max(DEFAULT_SECONDS.values())))
    return max(own, GAPS * longest_gap)


def tolerated(patience_seconds: float) -> float:
    """The silence after which a stall is called: the patience, and what clocks may differ (never more than it)."""
    return patience_seconds + min(CLOCKS_SECONDS, patience_seconds)
