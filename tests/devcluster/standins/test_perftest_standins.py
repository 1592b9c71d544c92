"""The stand-ins as processes, read by the product's own parsers."""

import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from devcluster.standins import company
from devcluster.standins.fabric_file import Fabric, Way
from llm_rollout.fabric import inventory, perftest, sysfs
from llm_rollout.fabric.inventory import Port
from llm_rollout.fabric.tools import is_listening

ROOT = Path(__file__).parents[3]


class Bench:
    """Starts stand-ins as if on a node."""

    def __init__(self, path):
        self._path, self._started = path, []
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
            "DEVCLUSTER_SYSFS": str(self._path.parent / f"sysfs-{node}"),
        }
        command = [sys.executable, "-m", f"devcluster.standins.{tool}", *arguments]
        self._started.append(
            subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        )
        return self._started[-1]

    def stop(self):
        for process in self._started:
            process.kill()
            process.communicate()

    def run(self, tool, node, *arguments):
        return _ended(self.start(tool, node, *arguments))

    def pair(self, tool, *arguments, scale="0.01"):
        server = self.start(tool, "node-1", "-p", str(self._port), *arguments, scale=scale)
        deadline = time.monotonic() + 60
        while not is_listening(self._port):
            assert server.poll() is None, server.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        client = self.start(tool, "node-2", "-p", str(self._port), *arguments, "127.0.0.1", scale=scale)
        said = _ended(client)
        if is_listening(self._port):
            server.kill()  # Nobody came: it waits for ever, as the original does.
        return _ended(server), said


def _ended(process):
    stdout, stderr = process.communicate(timeout=60)
    return perftest.Output(process.returncode, stdout, stderr)


@pytest.fixture
def bench(tmp_path):
    one = Bench(tmp_path / "fabric.json")
    yield one
    one.stop()


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
    assert 110 < perftest.bandwidth(client).value <= 120


def test_bidirectional_prints_both_ways_and_a_sweep_ends_at_8_mib(bench):
    _, client = bench.pair("ib_write_bw", "-a", "-b", "-F", "--report_gbits", "-n", "1000")
    sizes = [int(line.split()[0]) for line in client.stdout.splitlines() if re.match(r" \d", line)]
    assert sizes == [2**power for power in range(1, 24)]
    assert float(client.stdout.splitlines()[-2].split()[3]) > 700


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
    assert "Failed status 12: " in client.stderr
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


def _port(**fault):
    return {"nodes": {"node-2": {"*": fault}}}


@pytest.mark.parametrize(
    ("fabric", "arguments", "said"),
    [
        (_port(fault="timeout"), (), "Failed status 12: wr_id 0 syndrom 0x81"),
        (_port(fault="access"), (), "Failed status 4: wr_id 0 syndrom 0x51"),
        (_port(fault="flush"), (), "Failed status 5: wr_id 0 syndrom 0xf9"),
        (_port(fault="mtu"), (), "Failed status 12: wr_id 0"),
        (_port(fault="gid"), (), "Failed to modify QP"),
        (_port(ipv4=False), ("-x", "3"), "Unable to Connect the HCA's through the link"),
        (_port(gid_offset=1), ("-x", "3"), "Found Incompatibility issue with GID types"),
        (_port(fault="memlock"), (), "Couldn't allocate MR"),
        (_port(fault="gdr"), ("--use_cuda", "0"), "failed to create mr"),
        (_port(fault="no-device"), (), "Unable to find the Infiniband/RoCE device"),
        (_port(fault="oob"), (), "Unable to init the socket connection"),
    ],
)
def test_each_fault_is_told_by_the_client_in_the_words_of_the_original(bench, fabric, arguments, said):
    bench.fabric(fabric)
    server, client = bench.pair("ib_write_bw", *QUICK, *arguments)
    assert said in client.stderr
    assert client.exit_code == 1
    assert server.exit_code in {1, -9}


def test_server_that_goes_away_leaves_its_client_with_a_closed_socket(bench):
    bench.fabric({"nodes": {"node-1": {"*": {"fault": "crash"}}}})
    _, client = bench.pair("ib_write_bw", *QUICK)
    assert "ethernet_read_keys: Couldn't read remote address" in client.stderr


def test_small_messages_pass_where_large_ones_time_out(bench):
    bench.fabric(_port(fault="mtu"))
    _, client = bench.pair("ib_write_lat", "-s", "8", "-F")
    assert client.exit_code == 0


def test_memory_of_a_gpu_is_slower_where_the_file_says_so(bench):
    bench.fabric(_port(gdr_gbps=140))
    _, host = bench.pair("ib_write_bw", *QUICK, "--report_gbits")
    _, gpu = bench.pair("ib_write_bw", *QUICK, "--report_gbits", "--use_cuda", "0")
    assert perftest.bandwidth(host).value > 380
    assert 130 < perftest.bandwidth(gpu).value <= 140


def test_fault_that_does_not_exist_is_refused_by_name(bench):
    bench.fabric(_port(fault="gremlins"))
    output = bench.run("ibv_devinfo", "node-2")
    assert output.exit_code == 1
    assert "fault 'gremlins' is none of no-device, memlock" in output.stderr


def test_kernel_files_show_gids_and_counters_that_rise(bench, tmp_path):
    bench.fabric(_port(counters={"hw_counters/out_of_sequence": 40}))
    bench.pair("ib_write_bw", *QUICK)
    bench.pair("ib_write_bw", *QUICK)
    port = Port("mlx5_0", "simulated", "ACTIVE", 400.0, "Ethernet", 4096)
    gids = sysfs.with_gids({"mlx5_0": port}, tmp_path / "sysfs-node-2")["mlx5_0"].gids
    assert [(gid.roce_version, gid.ipv4) for gid in gids][2:] == [(1, "192.168.100.12"), (2, "192.168.100.12")]
    assert sysfs.counters(["mlx5_0"], tmp_path / "sysfs-node-2")["mlx5_0"]["out_of_sequence"] == 80


def test_devinfo_and_show_gids_agree_about_the_table(bench):
    bench.fabric({"nodes": {"node-4": {"mlx5_0": {"gid_offset": 2}}}})
    told = bench.run("ibv_devinfo", "node-4", "-v").stdout
    assert "GID[  5]:\t\t::ffff:192.168.100.14, RoCE v2" in told
    assert (
        "5\t0000:0000:0000:0000:0000:ffff:c0a8:640e\t192.168.100.14  \tv2\tnet1"
        in bench.run("show_gids", "node-4").stdout
    )


def test_infiniband_port_has_no_roce_gids(bench):
    bench.fabric(_port(link_layer="InfiniBand"))
    told = bench.run("ibv_devinfo", "node-2", "-v").stdout
    assert "link_layer:\t\tInfiniBand" in told
    assert "RoCE" not in told


def _gbps(fabric, sender, receiver, **way):
    way = Way(sender, receiver, "mlx5_0", **way)
    return fabric.gbps(fabric.port(sender, "mlx5_0"), fabric.port(receiver, "mlx5_0"), way)


def test_link_without_nodes_is_a_rail_and_without_device_the_whole_fabric():
    rail = Fabric(hcas=("mlx5_0", "mlx5_1"), links=[{"hca": "mlx5_1", "gbps": 90}])
    assert _gbps(rail, "a", "b") > 380
    assert _gbps(Fabric(links=[{"gbps": 90}]), "a", "b") < 91


def test_one_way_link_and_one_way_ports_are_slow_one_way():
    link = Fabric(links=[{"nodes": ["a", "b"], "gbps": 90, "one_way": True}])
    assert _gbps(link, "a", "b") < 91 < _gbps(link, "b", "a")
    sends_badly = Fabric(nodes={"a": {"*": {"tx_gbps": 90}}})
    assert _gbps(sends_badly, "a", "b") < 91 < _gbps(sends_badly, "b", "a")


def test_flaky_link_strikes_as_often_as_asked_and_the_same_for_a_seed():
    def struck(seed):
        fabric = Fabric(seed=seed, links=[{"gbps": 90, "probability": 0.2}])
        return [_gbps(fabric, "a", "b", number=number) < 91 for number in range(1000)]

    assert struck(1) == struck(1) != struck(2)
    assert 150 < sum(struck(1)) < 250


def test_link_that_is_slow_under_load_is_fast_alone():
    fabric = Fabric(links=[{"gbps": 90, "under_load": True}])
    assert _gbps(fabric, "a", "b", loaded=True) < 91 < _gbps(fabric, "a", "b")
    assert fabric.depends_on_load(Way("a", "b", "mlx5_0"))


HELD_RUN = """
import sys
import threading
from pathlib import Path
from devcluster.standins import company
run = company.Run(Path(sys.argv[1]))
Path(sys.argv[1]).read_text()
print(run.place, flush=True)
sys.stdin.readline()
run.looked()
print("looked", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def held_run(tmp_path):
    """The server of a run in a process of its own, whose client has not looked round, and the fabric file."""
    path = tmp_path / "fabric.json"
    path.write_text("{}")
    command = [sys.executable, "-c", HELD_RUN, str(path)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        yield process, path
        process.kill()


def test_runs_see_each_other_through_the_fabric_file(held_run, monkeypatch):
    monkeypatch.setattr(company, "_LOOK_SECONDS", 0.2)
    monkeypatch.setattr(company, "_WAIT_SECONDS", 0.2)
    other, path = held_run
    place = int(other.stdout.readline())
    looks = []
    assert not company.accompanied(path, place, lambda: looks.append("alone")), "a run is no company to itself"
    assert company.accompanied(path, place - 1, lambda: looks.append("below"))
    assert company.accompanied(path, place + 1, lambda: looks.append("above"))
    other.kill()
    other.wait()
    assert not company.accompanied(path, place + 1, lambda: looks.append("over")), "a run that has ended is no company"
    assert looks == ["alone", "below", "above", "over"]


def test_run_with_company_waits_until_the_other_has_seen_it(held_run):
    other, path = held_run
    place = int(other.stdout.readline())
    looked, known = threading.Event(), threading.Event()

    def look():
        assert company.accompanied(path, place + 1, looked.set)
        known.set()

    thread = threading.Thread(target=look)
    thread.start()
    assert looked.wait(60)
    assert not known.wait(0.3), "the other has not looked round yet"
    other.stdin.write(b"\n")
    other.stdin.flush()
    assert known.wait(60)
    thread.join()
    assert other.stdout.readline() == b"looked\n"


def test_noise_only_takes_away_and_stays_within_its_part():
    fabric = Fabric(noise=0.05)
    values = [_gbps(fabric, "a", "b") for _ in range(200)]
    assert 0.95 * 392 <= min(values) < max(values) <= 392
