"""The stand-ins as processes, read by the product's own parsers."""

import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from devcluster.standins.fabric_file import Fabric
from llm_rollout.fabric import inventory, perftest
from llm_rollout.fabric.tools import is_listening

ROOT = Path(__file__).parents[3]


class Bench:
    """Starts stand-ins as if on a node."""

    def __init__(self, path):
        self._path = path
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        self.fabric({})

    def fabric(self, content):
        self._path.write_text(json.dumps(content))

    def start(self, tool, node, *arguments, scale="0.01"):
        environment = os.environ | {
            "PYTHONPATH": f"{ROOT / 'include'}:{ROOT}",
            "DEVCLUSTER_NODE": node,
            "DEVCLUSTER_FABRIC": str(self._path),
            "DEVCLUSTER_TIME_SCALE": scale,
            "DEVCLUSTER_LISTEN_HOST": "127.0.0.1",
        }
        command = [sys.executable, "-m", f"devcluster.standins.{tool}", *arguments]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def run(self, tool, node, *arguments):
        return _ended(self.start(tool, node, *arguments))

    def pair(self, tool, *arguments, scale="0.01"):
        server = self.start(tool, "node-1", "-p", str(self._port), *arguments, scale=scale)
        deadline = time.monotonic() + 10
        while not is_listening(self._port):
            assert server.poll() is None, server.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        client = self.start(tool, "node-2", "-p", str(self._port), *arguments, "127.0.0.1", scale=scale)
        return _ended(server), _ended(client)


def _ended(process):
    stdout, stderr = process.communicate(timeout=20)
    return perftest.Output(process.returncode, stdout, stderr)


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path / "fabric.json")


QUICK = ("-d", "mlx5_0", "-D", "5", "-s", "1048576", "-q", "4", "-F")


def test_both_ends_print_the_same_healthy_bandwidth(bench):
    server, client = bench.pair("ib_write_bw", *QUICK, "--report_gbits", "-x", "3", "--tclass", "104", "-S", "3")
    measured = perftest.bandwidth(client)
    assert measured == perftest.bandwidth(server)
    assert 380 < measured.value < 400
    assert measured.simulated


def test_default_unit_is_mib(bench):
    _, client = bench.pair("ib_write_bw", *QUICK)
    assert "BW average[MiB/sec]" in client.stdout
    assert 380 < perftest.bandwidth(client).value < 400


@pytest.mark.parametrize("hca", ["mlx5_0", None])
def test_slow_link_is_slow_for_its_device(bench, hca):
    bench.fabric({"links": [{"nodes": ["node-2", "node-1"], "hca": hca, "gbps": 120}]})
    _, client = bench.pair("ib_write_bw", *QUICK, "--report_gbits")
    assert 110 < perftest.bandwidth(client).value < 120


def test_bidirectional_counts_both_ways_and_a_sweep_ends_at_8_mib(bench):
    _, client = bench.pair("ib_write_bw", "-a", "-b", "-F", "--report_gbits", "-n", "1000")
    sizes = [int(line.split()[0]) for line in client.stdout.splitlines() if re.match(r" \d", line)]
    assert sizes == [2**power for power in range(1, 24)]
    assert perftest.bandwidth(client).value > 700


def test_latency_of_a_link_is_reported(bench):
    bench.fabric({"links": [{"nodes": ["node-1", "node-2"], "usec": 15}]})
    server, client = bench.pair("ib_write_lat", "-s", "8", "-n", "5000", "-F")
    assert perftest.latency(server) == perftest.latency(client)
    assert perftest.latency(client).value == pytest.approx(16.3, abs=0.4)


def test_duration_is_honoured_and_scaled(bench):
    began = time.monotonic()
    bench.pair("ib_write_bw", *QUICK, "--report_gbits", scale="0.1")
    assert time.monotonic() - began >= 0.5


@pytest.mark.parametrize(
    ("fabric", "arguments", "said"),
    [
        ({}, ["-d", "mlx5_7"], "Unable to find the Infiniband/RoCE device"),
        ({}, ["127.0.0.1", "-p", "9"], "Couldn't connect to 127.0.0.1:9"),
        ({"nodes": {"node-1": {"mlx5_0": {"state": "DOWN"}}}}, [], "Port number 1 state is Down"),
    ],
)
def test_errors_are_in_the_words_of_the_original(bench, fabric, arguments, said):
    bench.fabric(fabric)
    output = bench.run("ib_write_bw", "node-1", *arguments)
    assert output.exit_code == 1
    assert said in output.stderr


def test_broken_link_fails_with_status_12_at_the_client_and_ends_the_server(bench):
    bench.fabric({"links": [{"nodes": ["node-1", "node-2"], "broken": True}]})
    server, client = bench.pair("ib_write_bw", *QUICK)
    assert "(12)" in client.stderr
    assert perftest.failure(client).status == "bad"
    assert server.exit_code == 1


@pytest.mark.parametrize("tool", ["ib_write_bw", "ib_write_lat", "ibv_devinfo", "show_gids"])
def test_first_line_says_that_it_is_simulated(bench, tool):
    first = bench.run(tool, "node-1", *(["127.0.0.1"] if tool.startswith("ib_") else [])).stdout.splitlines()[0]
    assert first.startswith("SIMULATED (devcluster): a stand-in on a simulated fabric")


@pytest.mark.parametrize("rate", [25, 100, 200, 400, 800])
def test_devinfo_shows_state_rate_and_transport(bench, rate):
    bench.fabric({"rate_gbps": rate, "nodes": {"node-3": {"mlx5_0": {"state": "DOWN", "mtu": 1024}}}})
    healthy = inventory.parse(bench.run("ibv_devinfo", "node-1", "-v").stdout)["mlx5_0"]
    down = inventory.parse(bench.run("ibv_devinfo", "node-3", "-v").stdout)["mlx5_0"]
    assert (healthy.state, healthy.rate_gbps, healthy.transport) == ("ACTIVE", rate, "simulated")
    assert (down.state, down.mtu_bytes) == ("DOWN", 1024)


def test_devinfo_lists_devices_and_refuses_unknown_ones(bench):
    bench.fabric({"hcas": ["mlx5_0", "mlx5_1"]})
    assert "2 HCAs found:\n\tmlx5_0\n\tmlx5_1" in bench.run("ibv_devinfo", "node-1", "-l").stdout
    assert bench.run("ibv_devinfo", "node-1", "-d", "mlx5_9").exit_code == 255


def test_gids_have_roce_v2_with_ipv4_at_index_3(bench):
    rows = bench.run("show_gids", "node-4").stdout.splitlines()
    assert rows[-1] == "n_gids_found=4"
    assert rows[6].split("\t")[2] == "3"
    assert "192.168.100.14" in rows[6]
    assert "v2" in rows[6]


def test_noise_only_takes_away_and_stays_within_its_part():
    fabric = Fabric(noise=0.05)
    one, other = fabric.port("a", "mlx5_0"), fabric.port("b", "mlx5_0")
    values = [fabric.gbps(one, other, ("a", "b")) for _ in range(200)]
    assert 0.95 * 392 <= min(values) < max(values) <= 392
