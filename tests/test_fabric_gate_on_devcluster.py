"""Every class of fault, injected into the devcluster's fabric: the gate stops the rollout and names part and remedy.

The steps are the real ones, and so are Job, pods and manifests; only the tools that measure are stand-ins.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest
from kubernetes import client

from devcluster.layout import Layout, write_json
from llm_rollout import adapters, cli, kinds, names, record, runner
from llm_rollout.ports import Ports
from llm_rollout.rollout import Rollout
from llm_rollout.spec import RolloutSpec
from llm_rollout.steps.pod_state import is_going
from llm_rollout.testing.simulation import FakeEvidence, FakeHub
from llm_rollout.verdict import Done, Fail, Wait

pytestmark = [pytest.mark.devcluster, pytest.mark.timeout(300)]

NAME, CLAIM = "gated", "gated-store"
RAILS = ("mlx5_0", "mlx5_1")
HEALTHY = {"rate_gbps": 400, "hcas": list(RAILS), "links": [], "nodes": {}, "noise": 0.01}
SPEC = {
    "name": NAME,
    "model": {"repo": "org/gated"},
    "service": {"name": f"{NAME}-api"},
    "store": {"claim": CLAIM},
    "server": {
        "tensor_parallel": 8,
        "resources": {"cpu": "500m", "memory": "512Mi"},
        "network": {"hcas": ["mlx5_0"], "nccl_env": {"DEVCLUSTER_TIME_SCALE": "0.02"}},
    },
    "fabric": {"accept_transports": ["simulated"], "attempts": 1, "cache_hours": 0, "replan": False},
}
"""The first of six nodes. The tools' five seconds take a fiftieth of that; retries are the probe's own matter."""


@dataclass(frozen=True)
class Row:
    """One fault, and what the last line of the red task has to name."""

    fault: Mapping[str, Any]
    named: tuple[str, ...]
    remedy: str = ""
    """How the remedy begins."""
    rails: tuple[str, ...] = RAILS[:1]
    nodes: int = 3
    verdict: str = "FAIL"


def port(node: str, hca: str, **fields: Any) -> dict[str, Any]:
    return {"nodes": {node: {hca: fields}}}


def link(*nodes: str, **fields: Any) -> dict[str, Any]:
    return {"links": [{**({"nodes": list(nodes)} if nodes else {}), **fields}]}


TABLE = {
    "bad NIC": Row(port("node-2", "mlx5_1", gbps=140), ("node-2", "mlx5_1"), rails=RAILS),
    "bad node": Row(port("node-3", "*", gbps=140), ("node-3",), "node node-3"),
    "one-way link": Row(link("node-1", "node-3", hca="mlx5_0", gbps=100, one_way=True), ("node-1", "node-3", "mlx5_0")),
    "rail switch": Row(link(hca="mlx5_1", gbps=90), ("mlx5_1",), rails=RAILS),
    "all": Row(link(gbps=90), ()),
    "two bad nodes": Row(
        {"nodes": {"node-1": {"*": {"gbps": 120}}, "node-4": {"*": {"gbps": 120}}}}, ("node-1", "node-4"), nodes=4
    ),
    "missing device": Row(port("node-2", "mlx5_1", fault="no-device"), ("node-2", "mlx5_1"), rails=RAILS),
    "port down": Row(port("node-3", "mlx5_0", state="DOWN"), ("node-3", "mlx5_0", "DOWN")),
    "half rate": Row(port("node-1", "mlx5_0", rate_gbps=200), ("node-1", "mlx5_0", "200")),
    "wrong GID": Row(port("node-3", "mlx5_0", fault="gid"), ("node-3", "mlx5_0")),
    "memlock": Row(port("node-3", "*", fault="memlock"), ("node-3", "IPC_LOCK")),
}


@pytest.fixture(scope="module")
def ports(cluster: Any) -> Iterator[Ports]:
    """The real cluster with a claim, and a hub in memory."""
    core = client.CoreV1Api(cluster.api())
    claim = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}}
    core.create_namespaced_persistent_volume_claim("default", {"metadata": {"name": CLAIM}, "spec": claim})
    fabric_file = Layout(cluster.home).fabric_file
    before = fabric_file.read_text()
    found = adapters.connect(str(cluster.kubeconfig), evidence=FakeEvidence())
    yield replace(found, hub=FakeHub({"v1": "1" * 40}))
    fabric_file.write_text(before)
    core.delete_namespaced_persistent_volume_claim(CLAIM, "default")
    for kind in (kinds.JOB, kinds.SERVICE, kinds.CONFIG_MAP):
        for one in found.cluster.list(kind, "default", {names.MODEL_LABEL: NAME}):
            found.cluster.delete(kind, "default", one["metadata"]["name"], one["metadata"]["uid"])


@pytest.fixture
def gate(cluster: Any, ports: Ports) -> Callable[..., Done | Fail]:
    """Plan, validate, conclude: what the DAG does until the gate has spoken."""

    def run(row: Row, run_id: str, **fabric: Any) -> Done | Fail:
        write_json(Layout(cluster.home).fabric_file, {**HEALTHY, **row.fault})
        network = {**SPEC["server"]["network"], "hcas": list(row.rails)}
        shape = {"nodes_per_group": row.nodes, "pipeline_parallel": row.nodes, "network": network}
        changes = {"server": {**SPEC["server"], **shape}, "fabric": {**SPEC["fabric"], **fabric}}
        spec = RolloutSpec.model_validate({**SPEC, **changes})
        rollout = Rollout(spec, run_id, f"{run_id}/1", "v1")
        assert isinstance(advance(cluster, "plan_rollout", rollout, ports), Done)
        verdict = advance(cluster, "validate_rdma", rollout, ports)
        advance(cluster, "conclude", rollout, ports)
        return verdict

    return run


def advance(cluster: Any, step: str, rollout: Rollout, ports: Ports) -> Done | Fail:
    def ended() -> Done | Fail | None:
        verdict = runner.advance(step, rollout, ports, time.time)
        return None if isinstance(verdict, Wait) else verdict

    found: Done | Fail = cluster.wait(ended, 90, f"{step} of {rollout.run_id} has ended")
    return found


def plan_of(ports: Ports, run_id: str) -> Any:
    return record.load(ports.cluster, "default", NAME).run(run_id).plan


@pytest.mark.parametrize("fault", TABLE)
def test_a_fault_stops_the_rollout_and_is_named(gate, ports, fault):
    row = TABLE[fault]
    began = time.monotonic()

    verdict = gate(row, fault.replace(" ", "-"))

    assert isinstance(verdict, Fail)
    print(f"{fault}: {verdict.evidence.get('rounds')} rounds, {time.monotonic() - began:.1f} s: {verdict.remedy}")
    assert verdict.cause.startswith(f"SIMULATED FABRIC: {row.verdict}: ")
    assert [word for word in row.named if word not in verdict.cause] == []
    assert [word for word in row.named[:1] if word not in verdict.remedy] == []
    assert verdict.remedy.startswith(row.remedy)
    assert ports.cluster.list(kinds.LEADER_WORKER_SET, "default", {names.MODEL_LABEL: NAME}) == []


def test_a_healthy_fabric_passes_and_the_pass_is_used_again_until_a_setting_changes(gate):
    healthy, down = Row({}, (), nodes=4), Row(port("node-1", "mlx5_0", state="DOWN"), (), nodes=4)
    began = time.monotonic()

    passed = gate(healthy, "healthy", cache_hours=24)
    print(f"healthy: {time.monotonic() - began:.1f} s: {passed.summary}")
    again = gate(down, "believes", cache_hours=24)
    changed = gate(down, "looks", cache_hours=24, queue_pairs=8)

    assert isinstance(passed, Done)
    assert passed.summary.startswith("SIMULATED FABRIC: PASS")
    assert passed.evidence["rounds"] == healthy.nodes - 1
    assert isinstance(again, Done)
    assert "by healthy; nodes and settings are the same" in again.summary
    assert isinstance(changed, Fail)


def test_a_bad_node_makes_place_for_a_spare_and_a_second_one_stops_it(gate, ports):
    first = Row(port("node-2", "mlx5_0", state="DOWN"), ())
    both = Row({"nodes": {"node-2": {"*": {"state": "DOWN"}}, "node-4": {"*": {"state": "DOWN"}}}}, ())

    went_on = gate(first, "one-bad-node", replan=True)
    stopped = gate(both, "two-in-turn", replan=True)

    assert isinstance(went_on, Done)
    assert "node-2 is left out" in went_on.summary
    assert plan_of(ports, "one-bad-node").nodes == ("node-1", "node-3", "node-4")
    assert isinstance(stopped, Fail)
    assert "nic node-2 mlx5_0: port is DOWN" in stopped.cause
    assert "node-4 was left out before" in stopped.cause


def test_the_command_measures_by_hand_and_leaves_nothing(cluster, ports, capsys):
    write_json(Layout(cluster.home).fabric_file, {**HEALTHY, **port("node-6", "mlx5_0", state="DOWN")})
    where = ["--kubeconfig", str(cluster.kubeconfig), "--accept", "simulated", "--seconds-per-pair", "1"]

    codes = [cli.main(["fabric", "--nodes", nodes, *where]) for nodes in ("node-4,node-5", "node-5,node-6")]
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    assert codes == [0, 3]
    passed, failed = (line for line in lines if line["event"] == "verdict")
    assert passed["sentence"].startswith("SIMULATED FABRIC: PASS")
    assert failed["remedy"].startswith("nic node-6 mlx5_0: ")
    left = ports.cluster.list(kinds.JOB, "default", {names.STEP_LABEL: "validate_rdma"})
    assert [job for job in left if job["metadata"]["name"].startswith("gate-") and not is_going(job)] == []
