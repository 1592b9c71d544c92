"""A model that lies in a directory, from its spec to the command of the Job that stages it."""

import dataclasses

import pytest
import yaml

from llm_rollout import adapters, kinds, record
from llm_rollout.adapters.evidence import DirectoryEvidence
from llm_rollout.adapters.sources import Sources
from llm_rollout.cli import main
from llm_rollout.errors import Permanent
from llm_rollout.rollout import Rollout
from llm_rollout.spec_loading import load_spec
from llm_rollout.staging import manifest
from llm_rollout.testing import Simulation

REPO = "acme/small"
FILES = {"config.json": "{}", "tokenizer.json": "{}", "model.safetensors": "w" * 500, "notes.md": "n" * 70}


@pytest.fixture
def described(tmp_path):
    """A described model at revision ``main``: where the endpoint is, and the commit."""
    folder = tmp_path / "models" / "sources" / REPO / "main"
    folder.mkdir(parents=True)
    for name, content in FILES.items():
        (folder / name).write_text(content)
    return tmp_path / "models" / "sources", manifest.describe(folder, REPO, (), (), lambda _: None).commit


@pytest.fixture
def spec_file(described, tmp_path):
    spec = {
        "name": "chat",
        "model": {"repo": REPO, "endpoint": f"file://{described[0]}"},
        "store": {"mount_path": str(tmp_path / "models")},
        "server": {"nodes_per_group": 3, "tensor_parallel": 8, "pipeline_parallel": 3},
        "service": {"name": "chat-api"},
    }
    path = tmp_path / "chat.yaml"
    path.write_text(yaml.safe_dump(spec))
    return path


def test_check_accepts_the_spec(spec_file, capsys):
    assert main(["check", str(spec_file)]) == 0, capsys.readouterr()


@pytest.mark.parametrize("endpoint", ["s3://bucket", "s3://bucket/pre/fix", "gs://bucket/pre"])
def test_check_accepts_object_stores(spec_file, endpoint, capsys):
    spec = yaml.safe_load(spec_file.read_text())
    spec["model"] |= {"endpoint": endpoint, "source_secret": "object-store"}
    spec_file.write_text(yaml.safe_dump(spec))
    assert main(["check", str(spec_file)]) == 0, capsys.readouterr()


def test_a_rollout_plans_and_stages_the_commit_of_the_manifest(spec_file, described, monkeypatch):
    """Airflow's own way to the hub is set, and is not taken for a source that is no hub."""
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    world = Simulation("chat", {})
    world.ports = dataclasses.replace(world.ports, hub=Sources())
    world.add_nodes(3)
    world.add_claim("default", "model-store")
    run = Rollout(load_spec(spec_file), "run", "run/1", "main")

    world.drive("plan_rollout", run)
    world.drive("stage_weights", run)

    plan = record.load(world.cluster, "default", "chat").run("run").plan
    assert plan.commit == described[1]
    assert plan.weights_bytes == sum(len(content) for name, content in FILES.items() if name != "notes.md")
    (job,) = (job for job in world.objects(kinds.JOB) if "stage" in job["metadata"]["name"])
    command = job["spec"]["template"]["spec"]["containers"][0]["command"]
    assert {f"--endpoint=file://{described[0]}", f"--revision={described[1]}"} <= set(command)


def test_the_ports_of_every_step_read_such_sources(stub, token, tmp_path, described):
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "stub", "user": "me"}}],
        "clusters": [{"name": "stub", "cluster": {"server": stub.url}}],
        "users": [{"name": "me", "user": {"token": token}}],
    }
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config))
    ports = adapters.connect(str(tmp_path / "kubeconfig"), evidence=DirectoryEvidence(tmp_path))

    assert ports.hub.resolve(REPO, "main", f"file://{described[0]}").commit == described[1]
    with pytest.raises(Permanent, match=r"check model\.repo, model\.revision and model\.endpoint"):
        ports.hub.resolve(REPO, "v9", f"file://{described[0]}")
