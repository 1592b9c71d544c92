import json
from dataclasses import replace

import pytest

from llm_rollout.fabric.conclusion import conclude
from llm_rollout.fabric.inventory import Finding
from llm_rollout.fabric.rows import Failure, Limits, Measured, Row, better, graded

LIMITS = Limits(min_fraction=0.90, warn_fraction=0.95, max_latency_usec=10.0)
BLANK = Row(1, "node-5", "node-4", "mlx5_0", None, 400.0, None, "could_not_run")


def _row(gbps, usec=2.0, *, simulated=False, **changes):
    row = replace(BLANK, **changes)
    return graded(row, Measured(gbps, simulated), Measured(usec, simulated), LIMITS)


def _way_back(gbps, **changes):
    return _row(gbps, server="node-4", client="node-5", **changes)


def _whole(slow=()):
    """Three nodes; ``slow`` has the Gb/s of nodes that are."""
    names = ("node-4", "node-5", "node-6")
    ways = [(server, client) for server in names for client in names if server != client]
    slow = dict(slow)
    speeds = {way: min(slow.get(end, 390) for end in way) for way in ways}
    return [_row(gbps, server=way[0], client=way[1]) for way, gbps in speeds.items()]


@pytest.mark.parametrize(
    ("gbps", "usec", "status"),
    [(390, 2, "ok"), (380, 2, "ok"), (379.9, 2, "warn"), (360, 2, "warn"), (359.9, 2, "bad"), (390, 10.1, "bad")],
)
def test_grades_are_parts_of_the_port_rate(gbps, usec, status):
    assert _row(gbps, usec).status == status


def test_grade_needs_a_known_rate():
    assert _row(390, rate_gbps=None).status == "could_not_run"


def test_measured_bad_bandwidth_stays_bad_when_latency_could_not_run():
    row = graded(BLANK, Measured(118), Failure("could_not_run", "no answer"), LIMITS)
    assert row.status == "bad"
    assert graded(BLANK, Measured(390), Failure("could_not_run", "no answer"), LIMITS).status == "could_not_run"


@pytest.mark.parametrize(
    ("first", "second", "status", "other"),
    [
        (_row(118), _row(390), "ok", "first try: 118 Gb/s < 0.90 × 400 Gb/s"),  # noqa: RUF001 - a product
        (_row(118), _row(119), "bad", "first try: 118 Gb/s"),
        (_row(118), BLANK, "bad", "second try: "),
        (BLANK, _row(390), "ok", "first try: "),
    ],
)
def test_better_try_counts_and_both_are_reported(first, second, status, other):
    blank = replace(BLANK, detail="no answer")
    counted = better(*(blank if row is BLANK else row for row in (first, second)))
    assert counted.status == status
    assert counted.other_try.startswith(other)


def test_every_try_is_kept_in_order_with_its_number():
    tries = [_row(118), replace(BLANK, detail="no answer"), _row(370)]
    counted = better(better(tries[0], tries[1]), tries[2])
    assert [one.status for one in counted.attempts] == ["bad", "could_not_run", "warn"]
    assert counted.status == "warn"
    assert counted.other_try == "first try: 118 Gb/s < 0.90 × 400 Gb/s; second try: no answer"  # noqa: RUF001 - a product
    assert [one["gbps"] for one in counted.as_json()["attempts"]] == [118, None, 370]


def test_slow_link_is_named_with_its_numbers():
    found = conclude([_row(118, simulated=True), _way_back(121, simulated=True)], [], "simulated")
    assert found.verdict == "FAIL"
    assert found.sentence.startswith(
        "SIMULATED FABRIC: FAIL: link node-4 <-> node-5 mlx5_0: 118 Gb/s < 0.90 × 400 Gb/s"  # noqa: RUF001 - a product
    )


def test_pass_needs_every_row_good():
    rows = [_row(390), _way_back(391)]
    assert conclude(rows, [], "rdma").verdict == "PASS"
    assert conclude([*rows, BLANK], [], "rdma").verdict == "INCONCLUSIVE"
    assert conclude(rows, [], "rdma", ["job-2 never joined within 5 s"]).verdict == "INCONCLUSIVE"
    assert conclude([], [], "rdma").verdict == "INCONCLUSIVE"


def test_pass_on_rdma_needs_no_opening_words_and_others_have_them():
    rows = [_row(390), _way_back(391)]
    assert conclude(rows, [], "rdma").sentence.startswith("PASS: 1 pair on mlx5_0: slowest node-4 -> node-5 390")
    assert conclude(rows, [], "tcp").sentence.startswith("TCP, NOT RDMA: PASS: ")


def test_one_simulated_row_makes_the_transport_simulated():
    found = conclude([_row(390), _way_back(391, simulated=True)], [], "rdma")
    assert found.transport == "simulated"
    assert found.sentence.startswith("SIMULATED FABRIC: PASS")


def test_rows_below_the_warning_limit_degrade_and_are_named():
    found = conclude([_row(370), _way_back(390)], [], "rdma")
    assert found.verdict == "DEGRADED"
    assert "direction node-4 -> node-5 mlx5_0: 370 Gb/s < 0.95" in found.sentence


def test_bad_row_fails_even_when_others_could_not_run_and_both_are_said():
    absent = replace(BLANK, client="node-9", detail="node-9 is not there")
    found = conclude([*_whole({"node-4": 118}), absent], [], "rdma")
    assert found.verdict == "FAIL"
    assert found.sentence.startswith("FAIL: node node-4 mlx5_0: 118 Gb/s")
    assert "node-9 is not there" in found.sentence


def test_bad_rows_of_nobody_are_inconclusive_and_name_the_candidates():
    rows = [
        row if "node-6" not in row.pair else replace(row, status="could_not_run") for row in _whole({"node-4": 118})
    ]
    found = conclude(rows, [], "rdma")
    assert found.verdict == "INCONCLUSIVE"
    assert found.bad == ()
    assert "118 Gb/s" in found.sentence
    assert "link node-4 <-> node-5" in found.sentence
    assert "node node-4" in found.sentence
    assert "none of them bad" not in found.sentence


def test_slow_and_unmeasured_is_not_only_slow():
    rows = [*_whole({"node-4": 370}), replace(BLANK, client="node-9")]
    assert conclude(rows, [], "rdma").verdict == "INCONCLUSIVE"
    assert conclude(_whole({"node-4": 370}), [], "rdma").verdict == "DEGRADED"


@pytest.mark.parametrize(("severity", "verdict"), [("bad", "FAIL"), ("warn", "DEGRADED"), ("note", "PASS")])
def test_findings_count_by_their_severity(severity, verdict):
    found = conclude(_whole(), [Finding("nic", "node-5", "mlx5_0: link_downed +1", severity)], "rdma")
    assert found.verdict == verdict
    assert [blame.kind for blame in found.bad] == ([] if severity == "note" else ["nic"])


def test_finding_without_traffic_fails_and_names_node_and_device():
    found = conclude([], [Finding("node", "node-3", "mlx5_0: port is DOWN, not ACTIVE", "bad")], "rdma")
    assert found.sentence == "FAIL: node node-3 mlx5_0: port is DOWN, not ACTIVE"
    assert found.bad[0].name == "node-3"


def test_inconclusive_names_who_is_missing():
    found = conclude([BLANK], [], "rdma", ["job-2 never joined within 5 s"])
    assert found.sentence.startswith("INCONCLUSIVE: job-2 never joined within 5 s; 0 of 1 rows measured")


def test_report_is_json_with_the_agreed_keys():
    report = json.loads(json.dumps(conclude([_row(118), _way_back(390)], [], "rdma").as_report()))
    assert set(report) == {"event", "verdict", "transport", "sentence", "rows", "bad"}
    assert set(report["rows"][0]) == {
        "round", "server", "client", "hca", "gbps", "rate_gbps", "p99_usec", "status", "detail", "attempts",
    }  # fmt: skip
    assert set(report["bad"][0]) == {"kind", "name", "detail"}
