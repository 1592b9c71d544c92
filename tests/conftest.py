"""What every test shares: an Airflow home of its own, set before anything imports Airflow, and one devcluster."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import HealthCheck, settings
from kubernetes import client, config

from devcluster.controlplane import python_path

_AIRFLOW_HOME = tempfile.mkdtemp(prefix="llm-rollout-airflow-")
atexit.register(shutil.rmtree, _AIRFLOW_HOME, ignore_errors=True)
os.environ |= {
    "AIRFLOW_HOME": _AIRFLOW_HOME,
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
}

# The same examples every time, and no clock: whether a run of CI passes must depend on neither luck nor load.
_TIMELESS = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("repeatable", derandomize=True, **_TIMELESS)
settings.register_profile("explore", print_blob=True, **_TIMELESS)
settings.load_profile("repeatable")

COMMAND_SECONDS = 120


@dataclass(frozen=True)
class Cluster:
    """A running devcluster, as its users see it."""

    home: Path

    @property
    def kubeconfig(self) -> Path:
        return self.home / "kubeconfig"

    def run(self, *arguments: str) -> str:
        """The output of ``devcluster <arguments>``; a failed command fails the test with what it said."""
        done = subprocess.run(command(self.home, *arguments), **_piped(), timeout=COMMAND_SECONDS, check=False)
        assert done.returncode == 0, f"devcluster {' '.join(arguments)}: {done.stderr}"
        return str(done.stdout).strip()

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.run("status", "--json"))
        return found

    def processes(self) -> list[psutil.Process]:
        """The namespace holder and everything below it."""
        holder = psutil.Process(json.loads((self.home / "state.json").read_text())["pid"])
        return [holder, *holder.children(recursive=True)]

    def api(self) -> client.ApiClient:
        return config.new_client_from_config(str(self.kubeconfig))

    @staticmethod
    def wait(check: Callable[[], Any], seconds: float, what: str) -> Any:
        """The first true answer of ``check``."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if answer := check():
                return answer
            time.sleep(0.1)
        pytest.fail(f"not within {seconds} s: {what}")


def command(home: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "devcluster", "--home", str(home), *arguments]


def start(home: Path) -> subprocess.Popen[str]:
    """A devcluster that ends with this process, however that ends; returns when it is ready."""
    process = subprocess.Popen(command(home, "up", "--foreground"), **_piped())
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith("ready"):
            return process
    _, said = process.communicate()
    pytest.fail(f"devcluster up: {''.join(lines)}{said}")


@contextmanager
def running(home: Path) -> Iterator[Cluster]:
    """A devcluster for the length of the block; it also ends when this process does, however that ends."""
    process = start(home)
    try:
        yield Cluster(home)
    finally:
        with process:
            process.terminate()
            process.communicate(timeout=COMMAND_SECONDS)
        shutil.rmtree(home, ignore_errors=True)


def still_alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those of ``processes`` that exist after the moment that the kernel may need to end them."""
    return list(psutil.wait_procs(processes, timeout=10)[1])


@pytest.fixture
def survivors() -> Callable[[list[psutil.Process]], list[psutil.Process]]:
    return still_alive


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    with running(_short_home()) as found:
        yield found
        processes = found.processes()
    assert still_alive(processes) == [], "`devcluster up --foreground` left processes behind"


@pytest.fixture
def second_cluster() -> Iterator[Cluster]:
    """A devcluster of one's own, to be killed."""
    with running(_short_home()) as found:
        yield found


def _short_home() -> Path:
    """Unix sockets have short names, so pytest's own temporary folders are too deep."""
    return Path(tempfile.mkdtemp(prefix="dc-", dir="/tmp"))


def _piped() -> dict[str, Any]:
    return {
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "text": True,
        "env": {**os.environ, "PYTHONPATH": python_path()},
    }
