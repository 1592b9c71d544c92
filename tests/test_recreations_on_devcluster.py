"""Candidates that never come up, under the real LeaderWorkerSet controller: started as often as allowed, then gone."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import pytest
from kubernetes import client

from benchmarks.coldstart.site import Changing
from llm_rollout import adapters, kinds, names, record, runner
from llm_rollout.ports import Manifest, Ports
from llm_rollout.rollout import Rollout
from llm_rollout.spec import RolloutSpec
from llm_rollout.steps import group_restarts
from llm_rollout.testing.simulation import FakeEvidence, FakeHub
from llm_rollout.verdict import Done, Fail, Wait

pytestmark = [pytest.mark.devcluster, pytest.mark.timeout(300)]

NAME, CLAIM = "restless", "restless-store"
LWS_CRD = "leaderworkersets.leaderworkerset.x-k8s.io"
SPEC = {
    "name": NAME,
    "model": {"repo": "org/restless"},
    "service": {"name": f"{NAME}-api"},
    "store": {"claim": CLAIM},
    "server": {
        "nodes_per_group": 2,
        "tensor_parallel": 8,
        "pipeline_parallel": 2,
        "resources": {"cpu": "500m", "memory": "512Mi"},
    },
    "fabric": {"replan": False},
    "timing": {"cold_start_seconds": 240, "bake_seconds": 0, "drain_seconds": 0},
}


@pytest.fixture(scope="module")
def ports(cluster: Any) -> Iterator[Ports]:
    """The real cluster with a claim, and a hub in memory."""
    core = client.CoreV1Api(cluster.api())
    claim = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}}
    core.create_namespaced_persistent_volume_claim("default", {"metadata": {"name": CLAIM}, "spec": claim})
    found = adapters.connect(str(cluster.kubeconfig), evidence=FakeEvidence())
    yield replace(found, hub=FakeHub({"v1": "1" * 40}))
    for kind in (kinds.LEADER_WORKER_SET, kinds.SERVICE, kinds.CONFIG_MAP):
        remove(found, kind)
    core.delete_namespaced_persistent_volume_claim(CLAIM, "default")


@pytest.fixture
def group(cluster: Any, ports: Ports) -> Iterator[Callable[..., Group]]:
    """A candidate that was created. Ranks that match ``dying`` die at once, all others start and start."""

    runs: list[Group] = []

    def create(run_id: str, dying: str, **timing: Any) -> Group:
        if dying:
            cluster.run("fault", "add", "crash", dying)
        cluster.run("fault", "add", "slow_start", f"{NAME}-*", "--seconds", "600")
        spec = RolloutSpec.model_validate({**SPEC, "timing": {**SPEC["timing"], **timing}})
        made = Group(cluster, ports, Rollout(spec, run_id, f"{run_id}/1", "v1"), frozenset(placed(ports)))
        runs.append(made)
        for step in ("plan_rollout", "create_group"):
            assert isinstance(made.drive(step), Done)
        return made

    yield create
    cluster.run("fault", "clear")
    for made in runs:
        made.drive("conclude")
    remove(ports, kinds.LEADER_WORKER_SET)
    cluster.wait(lambda: not objects(ports, kinds.POD), 60, "the pods are gone")


@dataclass(frozen=True)
class Group:
    """A run, and what is to be seen of its group."""

    cluster: Any
    ports: Ports
    rollout: Rollout
    before: frozenset[str]
    """The UIDs of leaders of earlier runs: the same target has the same names."""

    def drive(self, step: str) -> Done | Fail:
        """Look as often as a task does, and go on until the step has ended."""

        def ended() -> Done | Fail | None:
            verdict = runner.advance(step, self.rollout, self.ports, time.time)
            return None if isinstance(verdict, Wait) else verdict

        found: Done | Fail = self.cluster.wait(ended, 240, f"{step} of {self.rollout.run_id} has ended")
        return found

    def lws(self) -> Manifest:
        (found,) = objects(self.ports, kinds.LEADER_WORKER_SET)
        return found

    def starts(self) -> set[str]:
        """The UIDs of the leaders that were ever placed."""
        return placed(self.ports) - self.before


def placed(ports: Ports) -> set[str]:
    events = [one for one in ports.cluster.list(kinds.EVENT, "default") if one.get("reason") == "Scheduled"]
    leaders = [one["involvedObject"] for one in events if re.fullmatch(rf"{NAME}-\w+-0", one["involvedObject"]["name"])]
    return {about["uid"] for about in leaders}


def objects(ports: Ports, kind: Any) -> list[Manifest]:
    return list(ports.cluster.list(kind, "default", {names.MODEL_LABEL: NAME}))


def remove(ports: Ports, kind: Any) -> None:
    for one in objects(ports, kind):
        ports.cluster.delete(kind, "default", one["metadata"]["name"], one["metadata"]["uid"])


@pytest.mark.parametrize(("who", "pods"), [("leader", f"{NAME}-*-0"), ("worker", f"{NAME}-*-0-1")])
def test_a_rank_that_always_dies_is_started_as_often_as_allowed_with_growing_pauses(
    group, ports, who, pods, monkeypatch
):
    monkeypatch.setattr(group_restarts, "FIRST_PAUSE_SECONDS", 4.0)
    made = group(f"dies-{who}", pods, max_recreations=3)
    sizes: list[tuple[float, int]] = []

    def note(written: Manifest) -> None:
        size = written["spec"]["replicas"]
        if not sizes or sizes[-1][1] != size:
            sizes.append((time.monotonic(), size))

    # Whoever only looks now and then can miss the first pause, which has no length.
    noted = replace(ports, cluster=Changing(ports.cluster, note))
    verdict = replace(made, ports=noted).drive("await_cold_start")

    pauses = [until - since for (since, size), (until, _) in pairwise(sizes) if size == 0]
    print(f"{who}: pauses {[round(one, 1) for one in pauses]} s, {len(made.starts())} starts: {verdict}")
    assert isinstance(verdict, Fail)
    assert len(made.starts()) == 1 + 3
    assert verdict.evidence["failed_starts"] == 1 + 3
    assert [size for _, size in sizes][-1] == 0
    assert len(pauses) == 3
    assert all(pause > shortest - 1 for pause, shortest in zip(pauses, (0, 4, 12), strict=True))
    assert "timing.max_recreations allows 3" in verdict.cause
    assert f"{made.lws()['metadata']['name']}-0" in verdict.cause
    made.cluster.wait(lambda: not objects(ports, kinds.POD), 30, "no pod holds a GPU")


def test_a_budget_of_none_gives_the_first_failure_the_last_word_and_clearing_begins_anew(group):
    made = group("dies-at-once", f"{NAME}-*-0-1", max_recreations=0)

    verdict = made.drive("await_cold_start")
    before = made.lws()
    again = replace(made, rollout=replace(made.rollout, attempt="dies-at-once/2"))
    assert isinstance(again.drive("await_cold_start"), Fail)
    assert isinstance(again.drive("create_group"), Done)

    assert isinstance(verdict, Fail)
    assert "timing.max_recreations allows 0" in verdict.cause
    assert before["spec"]["replicas"] == 0
    assert made.lws()["spec"]["replicas"] == 1
    assert made.lws()["metadata"]["uid"] != before["metadata"]["uid"]


def test_the_controller_s_own_bound_is_set_where_its_api_has_one(group, cluster):
    crds = client.ApiextensionsV1Api(cluster.api())
    path = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/leaderWorkerTemplate/properties"
    field = f"{path}/maxGroupRestarts"
    schema = {"type": "integer", "format": "int32", "minimum": 0}
    crds.patch_custom_resource_definition(LWS_CRD, [{"op": "add", "path": field, "value": schema}])
    try:
        made = group("bounded", "", max_recreations=2)
        template = made.lws()["spec"]["leaderWorkerTemplate"]
    finally:
        crds.patch_custom_resource_definition(LWS_CRD, [{"op": "remove", "path": field}])

    assert template["maxGroupRestarts"] == 2
    assert record.load(made.ports.cluster, "default", NAME).run("bounded").step("create_group").verdict == "done"
