"""Whole probes: real processes, real TCP, the stand-ins as tools."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]
SPACING = 5
START = """
import argparse, sys
from llm_rollout.commands import probe
parser = argparse.ArgumentParser()
probe.arguments(parser)
sys.exit(probe.run(parser.parse_args()))
"""


def _free_base_port(members):
    """A block of ports that nothing listens on; below the range that the kernel hands out by itself."""
    for base in random.sample(range(20_000, 32_000, 100), 50):
        with ExitStack() as held:
            try:
                for offset in range(members * SPACING):
                    held.enter_context(socket.create_server(("127.0.0.1", base + offset)))
            except OSError:
                continue
            return base
    raise AssertionError("no free block of ports")


class Probe:
    """The members of one probe as processes."""

    def __init__(self, members, fabric, tools, folder):
        self._fabric, self._tools, self._folder = fabric, tools, folder
        base = _free_base_port(members)
        self.addresses = ",".join(f"127.0.0.1:{base + SPACING * index}" for index in range(members))
        self.processes = {}

    def start(self, index, *options, tools=None):
        environment = {
            "PATH": f"{tools or self._tools}:/usr/sbin",
            "PYTHONPATH": f"{ROOT / 'include'}:{ROOT}",
            "NODE_NAME": f"node-{index + 1}",
            "DEVCLUSTER_NODE": f"node-{index + 1}",
            "DEVCLUSTER_FABRIC": str(self._fabric),
            "DEVCLUSTER_TIME_SCALE": "0.01",
            "DEVCLUSTER_LISTEN_HOST": "127.0.0.1",
            "JOB_COMPLETION_INDEX": str(index),
        }
        command = [sys.executable, "-c", START]
        command += ["--addresses", self.addresses, "--deadline-seconds", "30", *options]
        out = (self._folder / f"{index}.out").open("w")
        with out:
            self.processes[index] = subprocess.Popen(command, env=environment, stdout=out, stderr=subprocess.STDOUT)

    def lines(self, index=0):
        text = (self._folder / f"{index}.out").read_text()
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def wait_for(self, phase):
        deadline = time.monotonic() + 20
        while not any(line.get("phase") == phase for line in self.lines()):
            assert time.monotonic() < deadline, self.lines()
            time.sleep(0.02)

    def wait_connected(self, index):
        deadline = time.monotonic() + 20
        process = psutil.Process(self.processes[index].pid)
        while not any(connection.status == psutil.CONN_ESTABLISHED for connection in process.net_connections()):
            assert time.monotonic() < deadline, self.lines(index)
            time.sleep(0.02)

    def report(self):
        assert self.processes[0].wait(timeout=40) == 0, self.lines()
        assert self.lines()[-1]["event"] == "report"
        return self.lines()[-1]

    def stop(self):
        for process in self.processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait()


@pytest.fixture
def probe(tools_directory, tmp_path):
    started = []

    def make(members, fabric=None):
        path = tmp_path / "fabric.json"
        path.write_text(json.dumps(fabric or {}))
        started.append(Probe(members, path, tools_directory, tmp_path))
        return started[-1]

    yield make
    for one in started:
        one.stop()


def _whole(one, members, *options):
    for index in range(members):
        one.start(index, *options)
    return one.report()


def test_healthy_fabric_of_three_passes_and_says_that_it_is_simulated(probe):
    one = probe(3)
    report = _whole(one, 3, "--hca", "mlx5_0")
    assert report["verdict"] == "PASS"
    assert report["transport"] == "simulated"
    assert report["sentence"].startswith("SIMULATED FABRIC: PASS: 3 pairs on mlx5_0")
    assert {(row["server"], row["client"]) for row in report["rows"]} == {
        (f"node-{a}", f"node-{b}") for a in (1, 2, 3) for b in (1, 2, 3) if a != b
    }
    assert all(380 < row["gbps"] < 400 and 1 < row["p99_usec"] < 4 for row in report["rows"])
    assert [one.processes[index].wait(timeout=10) for index in (1, 2)] == [0, 0]
    measured = [line for line in one.lines() if line.get("phase") == "measure"]
    assert [line["done"] for line in measured] == [1, 2, 3]


def test_slow_link_among_four_is_named_with_numbers(probe):
    report = _whole(probe(4, {"links": [{"nodes": ["node-3", "node-4"], "hca": "mlx5_0", "gbps": 120}]}), 4)
    assert report["verdict"] == "FAIL"
    assert [(blame["kind"], blame["name"]) for blame in report["bad"]] == [("link", "node-3 <-> node-4")]
    assert report["sentence"].startswith("SIMULATED FABRIC: FAIL: link node-3 <-> node-4 mlx5_0: 1")
    assert "Gb/s < 0.90 × 400 Gb/s" in report["sentence"]  # noqa: RUF001 - a product
    bad = [row for row in report["rows"] if row["status"] == "bad"]
    assert {(row["server"], row["client"]) for row in bad} == {("node-3", "node-4"), ("node-4", "node-3")}
    assert all("second try" in row["detail"] or "first try" in row["detail"] for row in bad)
    assert len(report["rows"]) == 4 * 3


def test_broken_rail_is_a_bad_link_not_a_hang(probe):
    broken = {"nodes": ["node-1", "node-2"], "hca": "mlx5_1", "broken": True}
    report = _whole(probe(2, {"hcas": ["mlx5_0", "mlx5_1"], "links": [broken]}), 2)
    assert report["verdict"] == "FAIL"
    assert [blame["name"] for blame in report["bad"]] == ["node-1 <-> node-2"]
    assert report["bad"][0]["detail"].startswith("mlx5_1: completion status 12")
    assert {(row["hca"], row["status"]) for row in report["rows"]} == {("mlx5_0", "ok"), ("mlx5_1", "bad")}


def test_port_that_is_down_fails_before_any_traffic(probe):
    report = _whole(probe(3, {"nodes": {"node-3": {"mlx5_0": {"state": "DOWN"}}}}), 3)
    assert report["sentence"] == "SIMULATED FABRIC: FAIL: node node-3 mlx5_0: port is DOWN, not ACTIVE: cable or NIC"
    assert report["rows"] == []


def test_member_that_never_joins_makes_it_inconclusive_and_is_named(probe):
    one = probe(3)
    for index in (0, 1):
        one.start(index, "--join-seconds", "2", "--hca", "mlx5_0")
    report = one.report()
    absent = one.addresses.split(",")[2]
    assert report["verdict"] == "INCONCLUSIVE"
    assert report["bad"] == []
    assert f"{absent} never joined within 2 s; 2 of 6 rows measured" in report["sentence"]
    assert {row["status"] for row in report["rows"] if absent in {row["server"], row["client"]}} == {"could_not_run"}


def test_member_that_dies_while_measuring_makes_it_inconclusive_and_is_named(probe):
    one = probe(3)
    for index in range(3):
        one.start(index, "--hca", "mlx5_0", "--seconds-per-pair", "60")
    one.wait_for("measure")
    one.processes[2].kill()
    report = one.report()
    assert report["verdict"] == "INCONCLUSIVE"
    assert "node-3 left the probe before its end" in report["sentence"]
    assert any(row["status"] == "ok" for row in report["rows"])


def test_restarted_member_takes_its_place_again(probe):
    one = probe(3)
    for index in range(3):
        one.start(index, "--hca", "mlx5_0", "--seconds-per-pair", "30")
    one.wait_for("measure")
    one.processes[0].send_signal(signal.SIGSTOP)
    one.processes[2].kill()
    one.processes[2].wait()
    one.start(2, "--hca", "mlx5_0")
    one.wait_connected(2)
    one.processes[0].send_signal(signal.SIGCONT)
    report = one.report()
    assert report["verdict"] == "PASS", report["sentence"]
    assert any("first try" in row["detail"] for row in report["rows"])
    assert one.processes[2].wait(timeout=10) == 0


def test_node_without_the_tools_is_not_called_bad(probe, tmp_path):
    one = probe(2)
    (tmp_path / "empty").mkdir()
    one.start(0)
    one.start(1, tools=tmp_path / "empty")
    report = one.report()
    assert report["verdict"] == "INCONCLUSIVE"
    assert "node-2: ibv_devinfo cannot be started" in report["sentence"]


def test_member_without_a_coordinator_gives_up_with_an_error_line(probe):
    one = probe(2)
    one.start(1, "--deadline-seconds", "1")
    assert one.processes[1].wait(timeout=20) == 4
    assert one.lines(1)[-1]["class"] == "Transient"


@pytest.mark.parametrize("options", [[], ["--peers", "1", "--subdomain", "x"], ["--addresses", "nonsense"]])
def test_wrong_use_is_permanent_and_says_what_is_needed(options, capsys, monkeypatch):
    import argparse  # noqa: PLC0415

    from llm_rollout.commands import probe as command  # noqa: PLC0415

    monkeypatch.setitem(os.environ, "JOB_COMPLETION_INDEX", "0")
    monkeypatch.setattr(socket, "gethostname", lambda: "job-0")
    parser = argparse.ArgumentParser()
    command.arguments(parser)
    assert command.run(parser.parse_args(options)) == 3
    assert json.loads(capsys.readouterr().out)["class"] == "Permanent"
