"""A look and a collection as real Jobs on a real claim."""

from __future__ import annotations

import hashlib
import os
import time

import pytest
from kubernetes import client

from devcluster.layout import Layout
from llm_rollout import adapters, collecting, kinds, names
from llm_rollout.collecting import Asked
from llm_rollout.manifests.collect_job import STEP, Rules
from llm_rollout.spec import RolloutSpec
from llm_rollout.staging.listing import MANIFEST, Digest, File
from llm_rollout.staging.store import Store
from llm_rollout.testing.simulation import FakeEvidence
from llm_rollout.verdict import Done, Wait

pytestmark = pytest.mark.devcluster

CLAIM, REPO = "collected-store", "org/collected"
SERVING, UNUSED, NEWEST = (letter * 40 for letter in "abc")
SPEC = RolloutSpec.model_validate({
    "name": "collected",
    "model": {"repo": REPO},
    "server": {"nodes_per_group": 1, "tensor_parallel": 8},
    "service": {"name": "collected-api"},
    "store": {"claim": CLAIM, "mount_path": "/weights"},
})  # fmt: skip


@pytest.fixture
def store(cluster, tmp_path):
    """A claim with three old commits, the oldest of which somebody else's pod serves."""
    core = client.CoreV1Api(cluster.api())
    size = {"requests": {"storage": "1Gi"}}
    core.create_namespaced_persistent_volume_claim(
        "default",
        {"metadata": {"name": CLAIM}, "spec": {"accessModes": ["ReadWriteMany"], "resources": size}},
    )
    found = Store(Layout(cluster.home).volume("default", CLAIM))
    cluster.wait(found.root.is_dir, 30, "the claim's volume is there")
    found.prepare()
    for number, commit in enumerate([SERVING, UNUSED, NEWEST]):
        data = tmp_path / "weights"
        data.write_text(commit)
        file = File("weights", len(commit), Digest("sha256", hashlib.sha256(commit.encode()).hexdigest()))
        found.adopt(data, file)
        moment = time.time() - (10 - number) * 86400
        os.utime(found.publish(REPO, commit, [file], number + 1) / MANIFEST, (moment, moment))
    serve = f"test -r /weights/models/org--collected/{SERVING}/weights && exec sleep 3600"
    engine = {"name": "engine", "image": "any", "command": ["sh", "-c", serve]}
    engine["volumeMounts"] = [{"name": "store", "mountPath": "/weights", "readOnly": True}]
    volume = {"name": "store", "persistentVolumeClaim": {"claimName": CLAIM}}
    pod = {"containers": [engine], "volumes": [volume], "terminationGracePeriodSeconds": 0}
    core.create_namespaced_pod("default", {"metadata": {"name": "engine-of-others"}, "spec": pod})
    yield found
    core.delete_namespaced_pod("engine-of-others", "default")
    core.delete_namespaced_persistent_volume_claim(CLAIM, "default")


def run(cluster, ports, *, dry_run):
    task = Asked(SPEC, (SPEC,), Rules(1, 60, dry_run), "run", "run/1")

    def ended():
        verdict = collecting.advance(task, ports, time.time)
        return None if isinstance(verdict, Wait) else verdict

    return cluster.wait(ended, 40, f"Job {task.job_name} has ended")


def test_a_look_and_a_collection_keep_what_a_pod_serves(cluster, store):
    ports = adapters.connect(str(cluster.kubeconfig), evidence=FakeEvidence())
    try:
        foreseen = run(cluster, ports, dry_run=True)
        assert isinstance(foreseen, Done)
        assert store.model(REPO, UNUSED).exists()
        done = run(cluster, ports, dry_run=False)
        assert isinstance(done, Done)
        assert foreseen.evidence["commits_removed"] == done.evidence["commits_removed"] == [f"{REPO}@{UNUSED}"]
        assert [store.model(REPO, commit).exists() for commit in (SERVING, UNUSED, NEWEST)] == [True, False, True]
    finally:
        for job in ports.cluster.list(kinds.JOB, "default", {names.STEP_LABEL: STEP}):
            ports.cluster.delete(kinds.JOB, "default", job["metadata"]["name"], job["metadata"]["uid"])
