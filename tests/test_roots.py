from __future__ import annotations

import json

import pytest

from llm_rollout import kinds, names, record, roots
from llm_rollout.errors import Permanent
from llm_rollout.manifests.leader_worker_set import leader_worker_set
from llm_rollout.manifests.stage_job import stage_job
from llm_rollout.record import Record, Revision, RolloutResult
from llm_rollout.rollout import RolloutPlan
from llm_rollout.spec import RolloutSpec
from llm_rollout.testing import Simulation

A, B, C, D = (letter * 40 for letter in "abcd")
SPEC = RolloutSpec.model_validate({
    "name": "chat",
    "model": {"repo": "org/chat"},
    "server": {"nodes_per_group": 3, "tensor_parallel": 8, "pipeline_parallel": 3, "executor": "ray"},
    "service": {"name": "chat-api"},
})  # fmt: skip
STORE = {"name": "store", "persistentVolumeClaim": {"claimName": "model-store"}}


@pytest.fixture
def world() -> Simulation:
    return Simulation("chat", {})


def in_use(world, *specs):
    return roots.in_use(specs or (SPEC,), "model-store", world.ports)


def plan(commit, spec=SPEC):
    return RolloutPlan(
        spec=spec, commit=commit, revision_id="abcdefgh", lws=f"chat-{commit[:8]}", nodes=("node-1",), weights_bytes=1,
        stable_lws=None, stable_revision_id=None, fencing_token=1,
    )  # fmt: skip


def revision(commit, *manifests):
    return Revision(revision_id="abcdefgh", commit=commit, lws="chat-abcdefgh", manifests=manifests)


def rollout(commit, outcome=None, **more):
    return RolloutResult(
        run_id=f"run-{commit[0]}", revision="main", started=1.0, outcome=outcome, plan=plan(commit), **more
    )


def write(world, found, annotation=None):
    record.update(world.cluster, "default", "chat", lambda _before: found)
    if annotation is not None:
        written = world.cluster.get(kinds.CONFIG_MAP, "default", "llm-rollout-chat")
        written["metadata"]["annotations"] = {roots.PINNED_ANNOTATION: annotation}
        world.cluster.show(written)


def pod(name="engine", *, args=(), volumes=(STORE,), phase="Pending", **metadata):
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", **metadata},
        "spec": {"containers": [{"name": "engine", "args": list(args)}], "volumes": list(volumes)},
        "status": {"phase": phase},
    }


def test_an_empty_namespace_uses_nothing(world):
    assert in_use(world) == frozenset()


def test_groups_of_ours_name_their_commit_and_speak_for_their_pods(world):
    """The pods of Ray's workers name no model."""
    world.cluster.apply(leader_worker_set(SPEC, plan(A)))
    world.cluster.show(pod(labels={roots.GROUP_LABEL: f"chat-{A[:8]}"}))
    assert in_use(world) == {f"org/chat@{A}"}


@pytest.mark.parametrize(
    "shown",
    [
        pytest.param(pod(args=[f"--model=/data/models/other-org--m.1/{A}"]), id="an argument"),
        pytest.param(pod(args=[f"/data/models/other-org--m.1/{A}/config.json"]), id="a file"),
        pytest.param(
            pod(volumes=[STORE, {"name": "x", "hostPath": {"path": f"/x/models/other-org--m.1/{A}"}}]), id="elsewhere"
        ),
        pytest.param(pod(annotations={roots.PINNED_ANNOTATION: f"other-org/m.1@{A}"}), id="an annotation"),
        pytest.param(pod(args=[f"models/other-org--m.1/{A}"], volumes=()), id="with another claim"),
    ],
)
def test_pods_of_others_name_what_they_use(world, shown):
    world.cluster.show(shown)
    assert in_use(world) == {f"other-org/m.1@{A}"}


@pytest.mark.parametrize(
    "shown",
    [
        pytest.param(pod(volumes=()), id="without the store"),
        pytest.param(pod(phase="Succeeded"), id="ended"),
        pytest.param(pod(annotations={roots.PINNED_ANNOTATION: ""}), id="said to use nothing"),
        pytest.param(pod(labels={names.STEP_LABEL: "stage_weights"}), id="a Job's of ours"),
        pytest.param(pod(args=[f"models/org--m/{A}0"], volumes=()), id="no commit"),
    ],
)
def test_pods_that_use_nothing(world, shown):
    world.cluster.show(shown)
    assert in_use(world) == frozenset()


def test_whoever_mounts_the_store_and_names_no_commit_stops_it(world):
    world.cluster.show(pod(args=["--config=/etc/engine.yaml"]))
    with pytest.raises(Permanent, match=r"Pod default/engine mounts the store model-store and names no commit") as said:
        in_use(world)
    assert roots.PINNED_ANNOTATION in str(said.value)


def test_a_group_of_others_that_names_no_commit_stops_it(world):
    template = {"spec": pod()["spec"]}
    world.cluster.show({
        "apiVersion": kinds.LEADER_WORKER_SET.api_version,
        "kind": kinds.LEADER_WORKER_SET.kind,
        "metadata": {"name": "theirs", "namespace": "default", "generation": 1},
        "spec": {"replicas": 0, "leaderWorkerTemplate": {"size": 2, "workerTemplate": template}},
    })  # fmt: skip
    with pytest.raises(Permanent, match="LeaderWorkerSet default/theirs"):
        in_use(world)


def test_a_record_names_current_previous_displaced_unfinished_and_the_last(world):
    older = rollout(A, "failed")
    running = rollout(B, displaced=revision(C))
    write(world, Record(name="chat", current=revision(D), previous=revision("e" * 40), rollouts=(older, running)))
    assert in_use(world) == {f"org/chat@{commit}" for commit in (B, C, D, "e" * 40)}


def test_the_last_rollout_can_be_cleared_however_it_ended(world):
    write(world, Record(name="chat", rollouts=(rollout(A, "failed"), rollout(B, "rolled_back"))))
    assert in_use(world) == {f"org/chat@{B}"}


def test_a_revision_of_an_earlier_repository_is_found_by_its_path(world):
    manifest = leader_worker_set(
        SPEC.model_copy(update={"model": SPEC.model.model_copy(update={"repo": "org/old"})}), plan(A)
    )
    write(world, Record(name="chat", previous=revision(A, manifest)))
    assert in_use(world) == {f"org/old@{A}"}


def test_records_of_all_models_of_the_namespace_count(world):
    write(world, Record(name="chat", current=revision(A)))
    other = SPEC.model_copy(update={"name": "other", "model": SPEC.model.model_copy(update={"repo": "org/other"})})
    record.update(world.cluster, "default", "other", lambda found: found.model_copy(update={"current": revision(B)}))
    assert in_use(world, SPEC, other) == {f"org/chat@{A}", f"org/other@{B}"}


@pytest.mark.parametrize("text", [f"{A},{B}", f" {A}\n{B} ", f"org/chat@{A}, {B}"])
def test_pinned_commits_stay(world, text):
    write(world, Record(name="chat"), text)
    assert in_use(world) == {f"org/chat@{A}", f"org/chat@{B}"}


def test_writing_the_record_keeps_what_is_pinned(world):
    write(world, Record(name="chat"), A)
    write(world, Record(name="chat", current=revision(B)))
    assert in_use(world) == {f"org/chat@{A}", f"org/chat@{B}"}


@pytest.mark.parametrize("text", ["main", A[:12], f"chat@{A}"])
def test_a_pin_that_names_no_commit_stops_it(world, text):
    write(world, Record(name="chat"), text)
    with pytest.raises(Permanent, match=rf"ConfigMap default/llm-rollout-chat, annotation .*pinned: '{text}'"):
        in_use(world)


def test_a_record_that_cannot_be_read_stops_it(world):
    write(world, Record(name="chat"))
    written = world.cluster.get(kinds.CONFIG_MAP, "default", "llm-rollout-chat")
    world.cluster.show({**written, "data": {record.KEY: json.dumps({"current": 7})}})
    with pytest.raises(Permanent, match="repair or delete it"):
        in_use(world)


def test_without_the_kind_of_the_groups_nobody_knows(world):
    world.access.unserved.add("LeaderWorkerSet")
    with pytest.raises(Permanent, match="knows no LeaderWorkerSet"):
        in_use(world)


def test_a_staging_job_s_pod_is_covered_by_its_plan(world):
    job = stage_job(SPEC, B, "run/1")
    template = job["spec"]["template"]
    world.cluster.show(pod(labels=template["metadata"]["labels"], volumes=template["spec"]["volumes"]))
    write(world, Record(name="chat", rollouts=(rollout(B),)))
    assert in_use(world) == {f"org/chat@{B}"}
