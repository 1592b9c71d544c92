"""Which engine the demo serves with: the stand-in, or with ``ENGINE=vllm`` the real vLLM built for CPUs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from devcluster.demo.scenarios import SCENARIOS, Scenario
from devcluster.engines import vllm_cpu

_VARIABLE = "DEVCLUSTER_VLLM"
"""Read by the node agent: the command that sandboxes run as ``vllm``."""


@dataclass(frozen=True)
class Engine:
    """What a demo with this engine changes."""

    scenarios: tuple[Scenario, ...] = SCENARIOS
    rollout_seconds: float = 240.0
    clients: int = 3
    """That stream all the while, one answer after the other."""
    spec: Mapping[str, Any] = field(default_factory=dict)
    """Of the model's spec, at its top level."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Of this process, before the cluster starts."""


def chosen() -> Engine:
    """The engine that ``$ENGINE`` names: ``standin`` (also when it is unset) or ``vllm``, installed when missing.

    Raises:
        ValueError: It names another one.
        vllm_cpu.InstallError: vLLM could not be installed.
    """
    name = os.environ.get("ENGINE") or "standin"
    if name == "standin":
        return Engine()
    if name != "vllm":
        raise ValueError(f"ENGINE={name}: choose standin or vllm")
    # First deployment and upgrade; the other two rollouts of the demo show nothing more of the engine. A rank that
    # computes takes a whole core, so that three clients would leave nothing of two cores for what rolls out.
    return Engine(SCENARIOS[:2], 1200.0, 1, real_spec(), {_VARIABLE: str(vllm_cpu.command())})


def real_spec() -> dict[str, Any]:
    """The model's spec for the real engine: two nodes, one rank each, budgets for two cores.

    Loading and serving take what the machine has: a group holds 6 GB, and an upgrade runs two of them side by side.
    """
    return {
        "server": {
            "nodes_per_group": 2,
            "gpus_per_node": 1,
            "tensor_parallel": 2,
            "max_model_len": 512,
            # The checkpoint's own type, in which the stand-in computes as well: the same tokens.
            "extra_args": ["--enforce-eager", "--dtype=float32"],
            "env": dict(vllm_cpu.SETTINGS),
            "resources": {"cpu": "500m", "memory": "3Gi", "shm": "256Mi"},
        },
        "canary": {
            "required": ["errors", "quality"],  # Times of two cores that all share say nothing of a candidate.
            "round_pairs": 25,
            "max_pairs": 600,
            "concurrency": 4,
            "error_margin": 0.05,
            "quality_margin": 0.1,
        },
        "timing": {"cold_start_seconds": 400, "bake_seconds": 5, "drain_seconds": 10},
    }
