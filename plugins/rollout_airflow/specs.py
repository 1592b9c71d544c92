"""Where the specs lie, and which of them can be used."""

from __future__ import annotations

import os
from pathlib import Path

from llm_rollout.spec import RolloutSpec
from llm_rollout.spec_loading import load_specs
from llm_rollout.spec_problems import Problem

SPECS = "LLM_ROLLOUT_SPECS"
"""A folder in place of ``include/rollouts``."""


def folder() -> Path:
    """The folder with one YAML file a model."""
    return Path(os.environ.get(SPECS) or Path(__file__).resolve().parents[2] / "include" / "rollouts")


def load() -> tuple[list[RolloutSpec], list[Problem]]:
    """The specs that can be used, by file name, and every problem of the others."""
    found, problems = load_specs(sorted([*folder().glob("*.yaml"), *folder().glob("*.yml")]))
    return list(found.values()), problems


def dag_id(kind: str, spec: RolloutSpec) -> str:
    """The id of a model's DAG: ``roll_out__llama_405b``."""
    return f"{kind}__{spec.name.replace('-', '_')}"
