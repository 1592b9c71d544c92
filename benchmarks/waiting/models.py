"""Many models on a real API server whose staging waits: for each its record, a Job that runs, and the Job's pod."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from kubernetes import client

from llm_rollout import kinds, runner
from llm_rollout.adapters.kube import KubeCluster
from llm_rollout.errors import Conflict
from llm_rollout.ports import Manifest
from llm_rollout.rollout import Rollout
from llm_rollout.spec import RolloutSpec
from llm_rollout.steps.jobs import JOB_NAME_LABEL
from llm_rollout.testing import Simulation

NAMESPACE = "waiting"
STEP = "stage_weights"
RUN, ATTEMPT, REVISION = "run-1", "run-1/1", "v1"
COMMIT = "1" * 40
NOBODY = "llm-rollout.dev/nobody"
"""Who runs the Jobs and places the pods: nobody, so that they stay as they are until the benchmark changes them."""
_THREADS = 8
_EXISTS = 409
_OF_THE_SERVER = ("uid", "resourceVersion", "creationTimestamp", "generation")


def spec(number: int) -> dict[str, Any]:
    """The spec of one model, as JSON."""
    name = f"model{number}"
    return {
        "name": name,
        "namespace": NAMESPACE,
        "model": {"repo": "org/chat", "revision": REVISION},
        "server": {"nodes_per_group": 3, "tensor_parallel": 8, "pipeline_parallel": 3},
        "service": {"name": f"{name}-api"},
    }


def clear(api_client: Any) -> None:
    """Remove what an earlier contender was given: some of its Jobs have ended."""
    core, batch = client.CoreV1Api(api_client), client.BatchV1Api(api_client)
    batch.delete_collection_namespaced_job(NAMESPACE, propagation_policy="Background")
    core.delete_collection_namespaced_pod(NAMESPACE, grace_period_seconds=0)
    core.delete_collection_namespaced_config_map(NAMESPACE)


def create(api_client: Any, count: int) -> list[str]:
    """Have so many models wait; the answer is their Jobs' names."""
    core = client.CoreV1Api(api_client)
    _ensure(lambda: core.create_namespace({"metadata": {"name": NAMESPACE}}))
    # No pod is taken before its service account is there, and its controller may be late.
    _ensure(lambda: core.create_namespaced_service_account(NAMESPACE, {"metadata": {"name": "default"}}))
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(lambda number: _create(KubeCluster(api_client), number), range(count)))


def complete(api_client: Any, job: str) -> None:
    """Have a Job end well."""
    path = f"/apis/batch/v1/namespaces/{NAMESPACE}/jobs/{job}/status"
    now = "2026-01-01T00:00:00Z"
    conditions = [{"type": kind, "status": "True"} for kind in ("SuccessCriteriaMet", "Complete")]
    body = {"status": {"startTime": now, "completionTime": now, "conditions": conditions, "succeeded": 1}}
    api_client.call_api(
        path, "PATCH", {}, [], {"Content-Type": "application/merge-patch+json"}, body=body,
        auth_settings=["BearerToken"], _preload_content=False,
    )  # fmt: skip


def _ensure(create: Callable[[], object]) -> None:
    try:
        create()
    except client.ApiException as error:
        if error.status != _EXISTS:
            raise


def _create(cluster: KubeCluster, number: int) -> str:
    record, job = _simulated(number)
    name = str(job["metadata"]["name"])
    labels = {**job["spec"]["template"]["metadata"]["labels"], JOB_NAME_LABEL: name}
    pod = {
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": f"{name}-abcde", "namespace": NAMESPACE, "labels": labels},
        "spec": {**job["spec"]["template"]["spec"], "schedulerName": NOBODY},
    }  # fmt: skip
    for manifest in (record, {**job, "spec": {**job["spec"], "managedBy": NOBODY}}, pod):
        try:
            cluster.create(manifest)
        except Conflict:
            continue  # It is there from an earlier start.
    return name


def _simulated(number: int) -> tuple[Manifest, Manifest]:
    """The record and the Job as a rollout in memory writes them."""
    world = Simulation(f"model{number}", {REVISION: COMMIT})
    world.add_nodes(3)
    world.add_claim(NAMESPACE, "model-store")
    rollout = Rollout(RolloutSpec.model_validate(spec(number)), RUN, ATTEMPT, REVISION)
    for step in ("plan_rollout", STEP):
        runner.advance(step, rollout, world.ports, world.now)
    return _bare(world.objects(kinds.CONFIG_MAP)[0]), _bare(world.objects(kinds.JOB)[0])


def _bare(manifest: Mapping[str, Any]) -> Manifest:
    copy: Manifest = json.loads(json.dumps(manifest))
    copy.pop("status", None)
    for field in _OF_THE_SERVER:
        copy["metadata"].pop(field, None)
    return copy
