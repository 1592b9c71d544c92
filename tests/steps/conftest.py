from collections.abc import Callable
from typing import Any

import pytest

from llm_rollout import names, record, runner
from llm_rollout.manifests.leader_worker_set import leader_worker_set
from llm_rollout.manifests.service import service
from llm_rollout.rollout import Rollout, RolloutPlan
from llm_rollout.spec import RolloutSpec
from llm_rollout.steps import PIPELINE
from llm_rollout.testing import Simulation

COMMIT = "1" * 40
SPEC = {
    "name": "chat",
    "model": {"repo": "org/chat"},
    "server": {"nodes_per_group": 3, "tensor_parallel": 8, "pipeline_parallel": 3},
    "service": {"name": "chat-api"},
    "timing": {"cold_start_seconds": 60, "bake_seconds": 10, "drain_seconds": 5},
}


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    both = dict(base)
    for key, value in changes.items():
        both[key] = merged(base.get(key, {}), value) if isinstance(value, dict) else value
    return both


@pytest.fixture
def make_rollout() -> Callable[..., Rollout]:
    """A planned run with changes of the spec, and of the plan by name."""

    def make(changes: dict[str, Any] | None = None, **plan: Any) -> Rollout:
        spec = RolloutSpec.model_validate(merged(SPEC, changes or {}))
        fields = {
            "spec": spec,
            "commit": COMMIT,
            "revision_id": "aaaaaaaa",
            "lws": "chat-aaaaaaaa",
            "nodes": ("node-1", "node-2", "node-3"),
            "weights_bytes": 1000,
            "stable_lws": "chat-bbbbbbbb",
            "stable_revision_id": "bbbbbbbb",
            "fencing_token": 7,
        }
        return Rollout(spec, "run", "run/1", "v1", plan=RolloutPlan(**{**fields, **plan}))

    return make


@pytest.fixture
def rollout(make_rollout) -> Rollout:
    return make_rollout()


@pytest.fixture
def world() -> Simulation:
    """Six free nodes, a model store, a hub with v1 and v2."""
    simulation = Simulation("chat", {"v1": "1" * 40, "v2": "2" * 40})
    simulation.add_nodes(6)
    simulation.add_claim("default", "model-store")
    return simulation


@pytest.fixture
def run_of() -> Callable[..., Rollout]:
    """An unplanned run, as a task starts it."""

    def run(revision: str = "v1", changes: dict[str, Any] | None = None, attempt: int = 1, **options: Any) -> Rollout:
        spec = RolloutSpec.model_validate(merged(SPEC, changes or {}))
        return Rollout(spec, f"run-{revision}", f"run-{revision}/{attempt}", revision, **options)

    return run


@pytest.fixture
def drive_before(world) -> Callable[[str, Rollout], Rollout]:
    """Drive a run up to a step, and give back the run as that step sees it."""

    def drive(step: str, run: Rollout) -> Rollout:
        for earlier in PIPELINE[: PIPELINE.index(step)]:
            world.drive(earlier, run)
        plan = record.load(world.cluster, "default", "chat").run(run.run_id).plan
        return run.under(plan)

    return drive


@pytest.fixture
def advance(world) -> Callable[[str, Rollout], Any]:
    return lambda step, run: runner.advance(step, run, world.ports, world.now)


@pytest.fixture
def serving(make_rollout) -> Callable[..., dict[str, Any]]:
    """The LeaderWorkerSet of a plan, with a status that serves unless changed."""

    def lws(run: Rollout | None = None, **status: Any) -> dict[str, Any]:
        run = run or make_rollout()
        manifest = leader_worker_set(run.spec, run.planned)
        metadata = {
            **manifest["metadata"],
            "uid": "uid-lws",
            "generation": 1,
            "creationTimestamp": "2026-11-24T10:00:00Z",
        }
        whole = {
            "observedGeneration": 1,
            "replicas": run.spec.groups,
            "readyReplicas": run.spec.groups,
            "updatedReplicas": run.spec.groups,
            "conditions": [{"type": "Available", "status": "True"}],
        }
        return {**manifest, "metadata": metadata, "status": {**whole, **status}}

    return lws


@pytest.fixture
def make_pod() -> Callable[..., dict[str, Any]]:
    """A pod of the candidate; ready on its node unless told otherwise."""

    def pod(
        name: str = "chat-aaaaaaaa-0", role: str = "leader", *, ready: bool = True, **status: Any
    ) -> dict[str, Any]:
        labels = {names.MODEL_LABEL: "chat", names.REVISION_LABEL: "aaaaaaaa", names.ROLE_LABEL: role}
        metadata = {"name": name, "namespace": "default", "labels": labels, "creationTimestamp": "2026-11-24T10:00:00Z"}
        conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
        state = {"name": "vllm", "restartCount": 0, "state": {"running": {}}}
        whole = {"phase": "Running", "conditions": conditions, "containerStatuses": [state]}
        return {"metadata": metadata, "spec": {"nodeName": "node-1"}, "status": {**whole, **status}}

    return pod


@pytest.fixture
def make_service() -> Callable[..., dict[str, Any]]:
    """The Service of the model, selecting a revision."""

    def make(run: Rollout, revision_id: str | None, switched_at: str = "") -> dict[str, Any]:
        manifest = service(run.spec, revision_id)
        stamp = {names.SWITCHED_ANNOTATION: switched_at} if switched_at else {}
        annotations = {**manifest["metadata"]["annotations"], **stamp}
        return {**manifest, "metadata": {**manifest["metadata"], "annotations": annotations, "resourceVersion": "5"}}

    return make
