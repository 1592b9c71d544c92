from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from devcluster import cli, lifecycle
from devcluster.layout import Layout, node_names, write_json


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """A home as `up` leaves it, without a cluster behind it."""
    found = Layout(tmp_path)
    write_json(found.state_file, {"nodes": node_names(3), "gpus": 8, "pid": 0})
    write_json(found.fabric_file, lifecycle.DEFAULT_FABRIC)
    write_json(found.faults_file, [])
    return found


def run(layout: Layout, *arguments: str) -> int:
    return cli.main(["--home", str(layout.home), *arguments])


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def test_a_fault_can_be_added_listed_and_cleared(layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(layout, "fault", "add", "crash_after", "llama-*-0", "--seconds", "2", "--times", "1") == 0
    fault_id = capsys.readouterr().out.strip()
    expected = {"id": fault_id, "kind": "crash_after", "pods": "llama-*-0", "container": "*"}
    assert read(layout.faults_file) == [expected | {"seconds": 2.0, "times": 1, "exit_code": 1, "said": None}]
    run(layout, "fault", "add", "hang", "*")
    assert run(layout, "fault", "clear", fault_id) == 0
    assert [fault["kind"] for fault in read(layout.faults_file)] == ["hang"]
    assert run(layout, "fault", "clear") == 0
    assert read(layout.faults_file) == []


def test_a_link_is_limited_once_and_reset(layout: Layout) -> None:
    run(layout, "fabric", "link", "node-1", "node-2", "--gbps", "120")
    run(layout, "fabric", "link", "node-2", "node-1", "--gbps", "90")
    assert read(layout.fabric_file)["links"] == [{"nodes": ["node-2", "node-1"], "hca": None, "gbps": 90.0}]
    run(layout, "fabric", "reset")
    assert read(layout.fabric_file) == lifecycle.DEFAULT_FABRIC


def test_a_port_keeps_what_was_set_before(layout: Layout) -> None:
    run(layout, "fabric", "port", "node-3", "--gbps", "200")
    run(layout, "fabric", "port", "node-3", "--state", "DOWN")
    assert read(layout.fabric_file)["nodes"] == {"node-3": {"mlx5_0": {"gbps": 200.0, "state": "DOWN"}}}


def test_a_node_that_failed_is_restored(layout: Layout) -> None:
    run(layout, "fail-node", "node-2")
    assert layout.failed_nodes() == {"node-2"}
    run(layout, "restore-node", "node-2")
    assert layout.failed_nodes() == set()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["fail-node", "node-9"], "node-1, node-2, node-3"),
        (["fabric", "link", "node-1", "node-9", "--gbps", "1"], "'node-9'"),
        (["fabric", "port", "node-1", "--hca", "mlx5_7"], "the fabric has mlx5_0"),
        (["fault", "clear", "nosuch"], "devcluster fault list"),
        (["logs", "nosuch"], "has no log"),
        (["status"], "devcluster up"),
        (["expose", "web"], "devcluster up"),
        (["kubeconfig"], "devcluster up"),
        (["up", "--nodes", "0"], "choose 1 to"),
    ],
)
def test_a_refusal_names_value_and_remedy(
    layout: Layout, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(layout, *arguments) == 1
    assert said in capsys.readouterr().err


def test_a_home_too_long_for_sockets_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--home", str(tmp_path / ("x" * 100)), "up"]) == 1
    assert "DEVCLUSTER_HOME is too long" in capsys.readouterr().err


def test_down_without_a_cluster_is_fine(layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(layout, "down") == 0
    assert "nothing runs" in capsys.readouterr().out
