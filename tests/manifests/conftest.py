from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from llm_rollout.names import lws_name
from llm_rollout.rollout import RolloutPlan
from llm_rollout.spec import RolloutSpec

ROLLOUTS = Path(__file__).parents[2] / "include/rollouts"


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    both = dict(base)
    for key, value in changes.items():
        both[key] = merged(base.get(key, {}), value) if isinstance(value, dict) else value
    return both


@pytest.fixture
def make_spec() -> Callable[..., RolloutSpec]:
    """The 405B example with changes, nested as in the file."""
    base = yaml.safe_load((ROLLOUTS / "llama-405b.yaml").read_text())
    return lambda changes=None: RolloutSpec.model_validate(merged(base, changes or {}))


@pytest.fixture
def make_plan() -> Callable[..., RolloutPlan]:
    """A plan for a spec: six nodes are known, as many are taken as the spec's groups need."""

    def plan(spec: RolloutSpec, **changes: Any) -> RolloutPlan:
        fields = {
            "spec": spec,
            "commit": "0123456789abcdef0123456789abcdef01234567",
            "revision_id": "abcdefgh",
            "lws": lws_name(spec.name, "abcdefgh"),
            "nodes": tuple(f"node-{i + 1}" for i in range(spec.groups * spec.server.nodes_per_group)),
            "weights_bytes": 810 * 10**9,
            "stable_lws": lws_name(spec.name, "ponmlkji"),
            "stable_revision_id": "ponmlkji",
            "fencing_token": 7,
        }
        return RolloutPlan(**{**fields, **changes})

    return plan
