"""The real vLLM and the stand-in side by side, started with the flags that the pipeline renders."""

import os
import sys

import httpx
import pytest

from devcluster import models
from devcluster.demo.engines import real_spec
from devcluster.engines import vllm_cpu
from devcluster.engines.corpus.running import Rank, Stage
from devcluster.layout import REPOSITORY
from llm_rollout.manifests import engine
from llm_rollout.spec import RolloutSpec

STANDIN = [sys.executable, "-m", "devcluster.standins.vllm"]
PYTHONPATH = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "include")])


def pipeline_spec(**server):
    """The spec of the demo with the real engine, with other fields in its server part."""
    fields = real_spec()
    return RolloutSpec.model_validate({
        "name": "tiny-chat",
        "model": {"repo": "devcluster/tiny-chat", "revision": "v1"},
        "service": {"name": "tiny-chat-api"},
        **fields,
        "server": fields["server"] | server,
    })  # fmt: skip


def rendered_flags(spec, port):
    """What the pipeline puts behind ``vllm serve MODEL`` for the leader, on this machine's port."""
    command = engine.leader_command(spec, "0" * 40)
    return [f"--port={port}" if flag.startswith("--port=") else flag for flag in command[3:]]


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory):
    """The demo's own three versions of a model, beside each other."""
    folder = tmp_path_factory.mktemp("models")
    models.build(folder)
    return folder


class Server:
    """One engine on one node with the demo's model."""

    def __init__(self, folder, tiny_models, command=()):
        self.stage = Stage(folder / "stage", tiny_models, command)
        flags = rendered_flags(pipeline_spec(nodes_per_group=1, tensor_parallel=1), self.stage.port)
        self.stage.start("leader", Rank("v1", flags, {"PYTHONPATH": PYTHONPATH} if command else {}))
        assert self.stage.wait_healthy(), self.stage.log("leader")[-3000:]
        self._client = httpx.Client(base_url=f"http://127.0.0.1:{self.stage.port}", timeout=60, trust_env=False)

    def get(self, path):
        return self._client.get(path)

    def post(self, path, **body):
        return self._client.post(path, json={"model": "tiny-chat", "temperature": 0, "max_tokens": 4, **body})

    def events(self, path, **body):
        """The events of a stream, each without its ``data:``."""
        reply = self.post(path, stream=True, **body)
        assert reply.status_code == 200, reply.text
        return [line[5:].strip() for line in reply.text.splitlines() if line.startswith("data:")]

    def close(self):
        self._client.close()
        self.stage.close()


@pytest.fixture(scope="session")
def real(tmp_path_factory, tiny_models):
    vllm_cpu.command()
    server = Server(tmp_path_factory.mktemp("real"), tiny_models)
    yield server
    server.close()


@pytest.fixture(scope="session")
def standin(tmp_path_factory, tiny_models):
    server = Server(tmp_path_factory.mktemp("standin"), tiny_models, STANDIN)
    yield server
    server.close()


@pytest.fixture(scope="session", name="pipeline_spec")
def _pipeline_spec():
    return pipeline_spec


@pytest.fixture
def real_alone(tmp_path, tiny_models):
    server = Server(tmp_path / "real", tiny_models)
    yield server
    server.close()


@pytest.fixture
def standin_alone(tmp_path, tiny_models):
    server = Server(tmp_path / "standin", tiny_models, STANDIN)
    yield server
    server.close()
