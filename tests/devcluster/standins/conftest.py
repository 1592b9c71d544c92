import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from devcluster.models import build

ROOT = Path(__file__).parents[3]
DEADLINE_SECONDS = 60
ENVIRONMENT = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'include'}"}


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    out = tmp_path_factory.getbasetemp() / "tiny-models"
    if not out.exists():
        build(out)
    return out


@pytest.fixture
def copied(models, tmp_path):
    return shutil.copytree(models / "v1", tmp_path / "v1")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def until(condition, what):
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"gave up waiting: {what}"
        time.sleep(0.02)


class Group:
    """The processes of one server, started the way the pods of a group are."""

    def __init__(self, directory, nnodes):
        self.directory = directory
        self.nnodes = nnodes
        self.port = free_port()
        self.master_port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.processes = {}

    def start(self, rank, model, *flags, **environment):
        command = [sys.executable, "-m", "devcluster.standins.vllm", "serve", str(model), "--served-model-name", "tiny"]
        command += ["--max-model-len", "4096", "--tensor-parallel-size", "8", f"--nnodes={self.nnodes}"]
        command += ["--pipeline-parallel-size", str(self.nnodes), "--master-addr", "localhost"]
        command += ["--master_port", str(self.master_port), "--node-rank", str(rank)]
        command += ["--headless"] if rank else ["--host", "127.0.0.1", "--port", str(self.port)]
        with self.log_path(rank).open("wb") as log:
            self.processes[rank] = subprocess.Popen(
                [*command, *flags],
                stdout=log,
                stderr=subprocess.STDOUT,
                env=ENVIRONMENT | environment,
            )
        return self

    def start_all(self, model, *flags, **environment):
        for rank in reversed(range(self.nnodes)):
            self.start(rank, model, *flags, **environment)
        return self

    def log_path(self, rank):
        return self.directory / f"rank-{rank}.log"

    def log(self, rank=0):
        return self.log_path(rank).read_bytes().decode()

    def healthy(self):
        assert self.processes[0].poll() is None, self.log()
        try:
            return httpx.get(f"{self.url}/health").status_code == 200
        except httpx.TransportError:
            return False

    def ready(self):
        until(self.healthy, "the server to become healthy")
        return self

    def exit_code(self, rank=0):
        return self.processes[rank].wait(timeout=DEADLINE_SECONDS)

    def terminate(self, rank=0):
        self.processes[rank].send_signal(signal.SIGTERM)

    def complete(self, prompt="3+5=", **body):
        body = {"model": "tiny", "prompt": prompt, "temperature": 0, "max_tokens": 16} | body
        return httpx.post(f"{self.url}/v1/completions", json=body, timeout=DEADLINE_SECONDS)

    def answer(self, prompt="3+5=", **body):
        response = self.complete(prompt, **body)
        assert response.status_code == 200, response.text
        return response.json()["choices"][0]

    def metric(self, name, labels=""):
        lines = httpx.get(f"{self.url}/metrics").text.splitlines()
        values = [line for line in lines if line.startswith(f"vllm:{name}{{") and labels in line]
        assert len(values) == 1, f"{name}: {values}"
        return float(values[0].rsplit(" ", 1)[1])

    def end(self):
        for process in self.processes.values():
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def shared_group(tmp_path_factory):
    groups = []

    def make(nnodes):
        groups.append(Group(tmp_path_factory.mktemp("group"), nnodes))
        return groups[-1]

    yield make
    for group in groups:
        group.end()


@pytest.fixture
def group(tmp_path_factory):
    groups = []

    def make(nnodes=1):
        groups.append(Group(tmp_path_factory.mktemp("group"), nnodes))
        return groups[-1]

    yield make
    for each in groups:
        each.end()
