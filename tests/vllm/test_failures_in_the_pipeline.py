"""The pipeline's own steps on groups of the real vLLM that fail: each ends in the right class, with its evidence."""

from __future__ import annotations

import time
from dataclasses import replace

import psutil
import pytest

from benchmarks.coldstart.failures import Failure, flags
from benchmarks.coldstart.site import COMMIT, Site, drive, spec_of, temporary_home
from devcluster import lifecycle
from devcluster.engines import vllm_cpu
from devcluster.hub.models import TINY_CHAT, bundled
from devcluster.layout import Layout
from llm_rollout.rollout import Rollout
from llm_rollout.spec import RolloutSpec
from llm_rollout.verdict import Done, Fail

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(1200)]

EAGER = ("--enforce-eager", "--dtype=float32")
TENSOR = {"tensor_parallel": 2, "pipeline_parallel": 1}
NODES, GPUS = 12, 1
"""Two for each row: what the row before held may still be ending."""
START_SECONDS = 500


class Vllm(Site):
    """Rows of the real engine: the spec gives it what it needs on a small machine."""

    def start(self, name, row, ports, server=TENSOR):
        """Plan and create; the rollout."""
        spec = spec_of(name, replace(row, env=dict(vllm_cpu.SETTINGS), extra_args=(*EAGER, *row.extra_args)))
        whole = spec.model_dump()
        whole["server"] |= {**server, "resources": {"cpu": "500m", "memory": "3Gi", "shm": "256Mi"}}
        whole["server"]["max_model_len"] = 512 if not row.extra_args else None
        whole["timing"] |= {"cold_start_seconds": 400, "patience": {}}
        rollout = Rollout(RolloutSpec.model_validate(whole), f"run-{name}", f"run-{name}/1", "v1")
        for step in ("plan_rollout", "create_group"):
            ended = drive(step, rollout, ports)
            assert isinstance(ended, Done), ended
        return rollout


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEVCLUSTER_VLLM", str(vllm_cpu.command()))
        layout = Layout(temporary_home())
        lifecycle.up(layout, NODES, GPUS, say=print, tied=True)
        yield Vllm(layout.home, bundled() / TINY_CHAT / "v1", tmp_path_factory.mktemp("evidence"))
        lifecycle.down(layout)


def wait_cold_start(rollout, ports):
    began = time.monotonic()
    verdict = drive("await_cold_start", rollout, ports, START_SECONDS)
    print(f"{rollout.spec.name}: {time.monotonic() - began:.0f} s, {verdict}")
    return verdict


@pytest.mark.parametrize(
    ("name", "row", "class_name"),
    [
        ("path", Failure((), "", change=lambda manifest: _replace(manifest, COMMIT, "nowhere")), "MODEL_REF"),
        ("length", Failure((), "", extra_args=("--max-model-len=999999",)), "BAD_MAX_LEN"),
        ("flag", Failure((), "", change=flags("worker", "--no-such-flag")), "BAD_FLAG"),
    ],
)
def test_what_is_wrong_from_the_start_is_named(site, name, row, class_name):
    with site._place(name, row) as ports:
        rollout = site.start(name, row, ports)
        verdict = wait_cold_start(rollout, ports)

    assert isinstance(verdict, Fail)
    assert class_name in verdict.cause


def test_a_worker_that_is_killed_while_it_loads_is_the_first_cause(site):
    name, row = "killed", Failure((), "", faults=(("kill", "killed-????????-0-1", "--said", "Starting to load model"),))
    with site._place(name, row) as ports:
        for arguments in row.faults:
            site.command("fault", "add", *arguments)
        rollout = site.start(name, row, ports)
        verdict = wait_cold_start(rollout, ports)

    assert isinstance(verdict, Fail)
    assert f"{rollout.spec.name}-" in verdict.cause
    assert "-0-1" in verdict.cause, "the worker is the first cause, not the leader that lost it"
    assert "exit code 137" in verdict.cause


def test_a_group_that_comes_up_is_followed_to_serving_with_its_phases(site):
    name, row = "healthy", Failure((), "")
    with site._place(name, row) as ports:
        rollout = site.start(name, row, ports)
        verdict = wait_cold_start(rollout, ports)
        memory = sum(process.memory_info().rss for process in engines())
        smoke = drive("smoke_test", rollout, ports, START_SECONDS)

    print(f"memory of the engine's processes: {memory / 1e9:.1f} GB (RSS)")
    assert isinstance(verdict, Done)
    assert {"process", "rendezvous", "weights", "kv_cache", "engine_up"} <= verdict.evidence["phases"].keys()
    assert isinstance(smoke, Done)


def test_pipeline_parallelism_on_cpus_comes_up_and_dies_at_its_first_request(site):
    name, row = "pipeline", Failure((), "")
    with site._place(name, row) as ports:
        rollout = site.start(name, row, ports, server={"tensor_parallel": 1, "pipeline_parallel": 2})
        assert isinstance(wait_cold_start(rollout, ports), Done), "/health says that it serves"
        verdict = drive("smoke_test", rollout, ports, START_SECONDS)

    print(verdict)
    assert isinstance(verdict, Fail)
    assert "ENGINE_BUG on pod" in verdict.cause


def engines():
    return [process for process in psutil.process_iter() if "vllm" in process.name().lower()]


def _replace(manifest, before, after):
    for role in ("leader", "worker"):
        containers = manifest["spec"]["leaderWorkerTemplate"][f"{role}Template"]["spec"]["containers"]
        for container in containers:
            container["command"] = [part.replace(before, after) for part in container["command"]]
