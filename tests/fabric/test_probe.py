"""Whole probes: real processes, real TCP, the stand-ins as tools."""

import argparse
import json
import os
import signal
import socket

import pytest

from llm_rollout.commands import probe as command


def test_healthy_fabric_of_three_passes_and_says_that_it_is_simulated(probe):
    one = probe(3)
    report = one.whole("--hca", "mlx5_0")
    assert report["verdict"] == "PASS"
    assert report["transport"] == "simulated"
    assert report["sentence"].startswith("SIMULATED FABRIC: PASS: 3 pairs on mlx5_0")
    assert {(row["server"], row["client"]) for row in report["rows"]} == {
        (f"node-{a}", f"node-{b}") for a in (1, 2, 3) for b in (1, 2, 3) if a != b
    }
    assert all(380 < row["gbps"] < 400 and 1 < row["p99_usec"] < 4 for row in report["rows"])
    assert [one.processes[index].wait(timeout=60) for index in (1, 2)] == [0, 0]
    measured = [line for line in one.lines() if line.get("phase") == "measure"]
    assert [line["done"] for line in measured] == [1, 2, 3]


def test_slow_link_among_four_is_named_with_numbers(probe):
    report = probe(4, {"links": [{"nodes": ["node-3", "node-4"], "hca": "mlx5_0", "gbps": 120}]}).whole()
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
    report = probe(2, {"hcas": ["mlx5_0", "mlx5_1"], "links": [broken]}).whole()
    assert report["verdict"] == "FAIL"
    assert [blame["name"] for blame in report["bad"]] == ["node-1 <-> node-2"]
    assert "completion status 12" in report["bad"][0]["detail"]
    assert {(row["hca"], row["status"]) for row in report["rows"]} == {("mlx5_0", "ok"), ("mlx5_1", "bad")}


def test_port_that_is_down_fails_before_any_traffic(probe):
    report = probe(3, {"nodes": {"node-3": {"mlx5_0": {"state": "DOWN"}}}}).whole()
    assert report["sentence"] == "SIMULATED FABRIC: FAIL: nic node-3 mlx5_0: port is DOWN, not ACTIVE: cable or NIC"
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


def test_member_that_comes_late_is_waited_for(probe):
    one = probe(3)
    for index in (0, 1):
        one.start(index, "--hca", "mlx5_0")
    one.wait_for("join")
    one.start(2, "--hca", "mlx5_0")
    report = one.report()
    assert report["verdict"] == "PASS", report["sentence"]
    assert [member["node"] for member in report["members"]] == ["node-1", "node-2", "node-3"]


def test_progress_says_which_round_which_pair_and_how_long_it_will_take(probe):
    one = probe(4)
    report = one.whole()
    lines = [line for line in one.lines() if line.get("phase") in {"plan", "measure"}]
    assert lines[0]["message"] == "6 pairs on mlx5_0 in 3 rounds, about 42 s"
    assert lines[-1]["message"].startswith("attempt 1, round 3 of 3: node-")
    assert lines[-1]["eta_seconds"] == 0
    assert (report["rounds"], report["retry_rounds"]) == (3, 0)
    assert 0 < report["seconds"] < 30


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
    assert one.processes[2].wait(timeout=60) == 0


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
    assert one.processes[1].wait(timeout=60) == 4
    assert one.lines(1)[-1]["class"] == "Transient"


@pytest.mark.parametrize("options", [[], ["--peers", "1", "--subdomain", "x"], ["--addresses", "nonsense"]])
def test_wrong_use_is_permanent_and_says_what_is_needed(options, capsys, monkeypatch):
    monkeypatch.setitem(os.environ, "JOB_COMPLETION_INDEX", "0")
    monkeypatch.setattr(socket, "gethostname", lambda: "job-0")
    parser = argparse.ArgumentParser()
    command.arguments(parser)
    assert command.run(parser.parse_args(options)) == 3
    assert json.loads(capsys.readouterr().out)["class"] == "Permanent"
