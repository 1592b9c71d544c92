"""Each class of fault, in the originals' words, through whole probes: the right row, or the right finding."""

from pathlib import Path

import pytest

ONCE = ("--attempts", "1")


def _port(**fault):
    return {"nodes": {"node-2": {"*": fault}}}


def _statuses(report):
    return {(row["client"], row["server"]): row["status"] for row in report["rows"]}


@pytest.mark.parametrize(
    ("fabric", "status", "said"),
    [
        pytest.param(_port(fault="gid"), "bad", "Failed to modify QP", id="gid"),
        pytest.param(_port(fault="timeout"), "bad", "12", id="timeout"),
        pytest.param(_port(fault="access"), "bad", "4", id="access"),
        pytest.param(_port(fault="flush"), "bad", "5", id="flush"),
        pytest.param(_port(fault="mtu"), "bad", "12", id="mtu"),
        pytest.param(_port(tx_gbps=100, rx_gbps=90), "bad", "of 400", id="nic"),
        pytest.param({"links": [{"gbps": 90}]}, "bad", "of 400", id="global"),
        pytest.param({"links": [{"usec": 30}]}, "bad", "usec", id="latency"),
    ],
)
def test_fault_of_the_path_is_a_bad_row_both_ways(probe, fabric, status, said):
    report = probe(2, fabric).whole(*ONCE)
    assert report["verdict"] == "FAIL", report["sentence"]
    assert _statuses(report) == {("node-1", "node-2"): status, ("node-2", "node-1"): status}
    assert all(said in row["detail"] or said == "of 400" for row in report["rows"])


@pytest.mark.parametrize(
    ("fault", "said"),
    [("oob", "Couldn't connect to"), ("crash", "Couldn't read remote address"), ("killed", "exit code -9")],
)
def test_tool_that_could_not_run_is_named_with_its_node_and_blames_nobody(probe, fault, said):
    report = probe(2, _port(fault=fault)).whole(*ONCE)
    assert report["verdict"] == "INCONCLUSIVE", report["sentence"]
    assert report["bad"] == []
    assert any("node-" in row["detail"] and said in row["detail"] for row in report["rows"])


def test_memory_that_cannot_be_locked_is_told_of_the_node_where_it_is(probe):
    report = probe(2, _port(fault="memlock")).whole(*ONCE)
    assert report["verdict"] != "PASS"
    assert all("Couldn't allocate MR" in row["detail"] for row in report["rows"])


def test_hung_tool_is_killed_and_named(probe):
    report = probe(2, _port(fault="hang")).whole(*ONCE, "--seconds-per-pair", "1", tool_start_seconds=1)
    assert report["verdict"] == "INCONCLUSIVE"
    assert all("ib_write_bw: took too long and was ended" in row["detail"] for row in report["rows"])
    assert {row["detail"].partition(":")[0] for row in report["rows"]} == {"node-1", "node-2"}


@pytest.mark.parametrize(
    ("fault", "options", "kind", "said"),
    [
        pytest.param({"state": "DOWN"}, [], "nic", "port is DOWN", id="port"),
        pytest.param(
            {"fault": "no-device"}, ["--hca", "mlx5_0"], "nic", "no such device; there is mlx5_1", id="no-device"
        ),
        pytest.param({"rate_gbps": 200}, [], "nic", "port rate 200 Gb/s, others 400 Gb/s", id="rate"),
        pytest.param({"ipv4": False}, [], "nic", "no GID of RoCE v2 with an IPv4 address", id="no-ipv4"),
        pytest.param({"gid_offset": 2}, ["--gid-index", "3"], "nic", "RoCE v2 with IPv4 is index 5", id="gid-index"),
        pytest.param({"link_layer": "InfiniBand"}, [], "setting", "link layers differ", id="link-layer"),
    ],
)
def test_what_a_node_says_of_itself_is_found_before_any_traffic(probe, fault, options, kind, said):
    report = probe(2, {"hcas": ["mlx5_0", "mlx5_1"], "nodes": {"node-2": {"mlx5_0": fault}}}).whole(*options)
    (finding,) = report["findings"]
    assert (report["verdict"], report["rows"], finding["kind"], finding["severity"]) == ("FAIL", [], kind, "bad")
    assert said in finding["detail"]
    assert finding["remedy"]
    assert kind == "setting" or finding["name"] == "node-2"


def test_each_end_measures_with_its_own_gid_index(probe):
    report = probe(2, _port(gid_offset=1)).whole(*ONCE)
    assert report["verdict"] == "PASS", report["sentence"]


def test_one_way_link_is_bad_one_way(probe):
    report = probe(2, {"links": [{"nodes": ["node-2", "node-1"], "gbps": 90, "one_way": True}]}).whole(*ONCE)
    assert _statuses(report) == {("node-2", "node-1"): "bad", ("node-1", "node-2"): "ok"}


def test_switch_of_a_rail_spoils_that_rail_only(probe):
    fabric = {"hcas": ["mlx5_0", "mlx5_1"], "links": [{"hca": "mlx5_1", "gbps": 90}]}
    report = probe(3, fabric).whole(*ONCE)
    assert {(row["hca"], row["status"]) for row in report["rows"]} == {("mlx5_0", "ok"), ("mlx5_1", "bad")}


def test_fabric_that_is_slow_under_load_only_fails_as_a_setting(probe):
    fabric = {"hcas": ["mlx5_0", "mlx5_1"], "links": [{"gbps": 150, "under_load": True}]}
    report = probe(2, fabric).whole()
    assert {row["status"] for row in report["rows"]} == {"ok"}
    assert report["verdict"] == "FAIL", report["sentence"]
    assert {finding["name"] for finding in report["findings"]} == {"load"}
    assert "good alone only" in report["sentence"]


def test_flaky_path_is_tried_again_and_passes(probe):
    fabric = {"seed": 1, "links": [{"nodes": ["node-1", "node-2"], "gbps": 90, "probability": 0.5}]}
    one = probe(2, fabric)
    report = one.whole()
    assert {row["status"] for row in report["rows"]} == {"ok"}
    assert any(line.get("attempt", 1) > 1 for line in one.lines())


def test_counters_that_rise_are_told_and_a_link_that_went_down_is_a_warning(probe):
    rising = {"hw_counters/out_of_sequence": 7, "counters/link_downed": 1}
    report = probe(2, {"nodes": {"node-2": {"*": {"counters": rising}}}}).whole()
    assert [(f["name"], f["severity"]) for f in report["findings"]] == [("node-2", "warn")]
    assert "link_downed +" in report["findings"][0]["detail"]
    assert report["verdict"] == "DEGRADED"


@pytest.mark.parametrize(
    ("sample", "verdict", "said"),
    [
        ("nccl_tests_all_reduce_with_log", "PASS", "1 pair on mlx5_0"),
        ("nccl_tests_all_reduce_over_sockets", "FAIL", "setting NCCL node-1 went over sockets"),
        ("no-such-file", "INCONCLUSIVE", "NCCL did not run on node-1"),
    ],
)
def test_nccl_runs_on_all_nodes_and_sockets_fail(probe, sample, verdict, said):
    samples = Path(__file__).parent / "reading/samples"
    report = probe(2).whole("--nccl-command", f"/bin/cat {samples / sample}.txt")
    assert report["verdict"] == verdict, report["sentence"]
    assert said in report["sentence"]
