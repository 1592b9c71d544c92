from dataclasses import replace

import pytest

from llm_rollout.fabric.judgement import judge
from llm_rollout.fabric.matrix import Attempt, Thresholds
from tests.fabric.matrices import HEALTHY, RATE, bad, matrix, named

DOWN = Attempt(None, "timeout")

ONE_FAULT = [
    (2, 1, "A-B", "two nodes: the path between them, never a node"),
    (2, 2, "A-B1", "two nodes, one rail"),
    (2, 2, "A>B1", "two nodes, one way"),
    (2, 8, "*", "two nodes, everything"),
    (3, 1, "A", "one rail: a node is its NIC"),
    (3, 1, "A-B", "one rail: a link"),
    (3, 1, "A>B0", "one rail: a direction"),
    (3, 1, "*", "three nodes, all bad"),
    (3, 8, "A0", "NIC"),
    (3, 8, "A", "node on all rails"),
    (3, 8, "B-C5", "link"),
    (3, 8, "A-C", "link on all rails"),
    (3, 8, "C>B5", "direction"),
    (3, 8, "4", "rail"),
    (3, 8, "*", "global"),
    (16, 8, "P7", "NIC among many"),
    (16, 8, "A", "node among many"),
    (16, 8, "2", "rail of many"),
]


@pytest.mark.parametrize("level", [0.0, 0.5, 0.8, 0.899])
@pytest.mark.parametrize(("nodes", "rails", "part"), [row[:3] for row in ONE_FAULT], ids=[row[3] for row in ONE_FAULT])
def test_one_bad_part_is_named_and_fails(nodes, rails, part, level):
    seen = matrix(nodes, rails, bad(part, level=level))
    judgement = judge(seen)
    assert (judgement.verdict, named(seen, judgement)) == ("FAIL", [part])


@pytest.mark.parametrize("level", [0.901, 0.92, 0.94])
@pytest.mark.parametrize(("nodes", "rails", "part"), [row[:3] for row in ONE_FAULT], ids=[row[3] for row in ONE_FAULT])
def test_one_part_between_the_limits_is_named_and_degrades(nodes, rails, part, level):
    seen = matrix(nodes, rails, bad(part, level=level))
    judgement = judge(seen)
    assert (judgement.verdict, named(seen, judgement)) == ("DEGRADED", [part])


SEVERAL = [
    ("a NIC that only sends badly", 3, 2, ["A1>"], ["A1"]),
    ("a NIC that only receives badly", 3, 2, ["A1<"], ["A1"]),
    ("a node that only sends badly", 4, 2, ["A>"], ["A"]),
    ("a node on some rails", 3, 8, ["A0", "A3", "A7"], ["A0", "A3", "A7"]),
    ("two nodes of four", 4, 2, ["A", "B"], ["A", "B"]),
    ("two nodes of three look global", 3, 2, ["A", "B"], ["*"]),
    ("two NICs of three look like the rail", 3, 2, ["A1", "B1"], ["1"]),
    ("a NIC and a link elsewhere", 4, 2, ["A0", "B-C0"], ["A0", "B-C0"]),
    ("a NIC and a rail", 4, 4, ["A0", "1"], ["1", "A0"]),
    ("three NICs of five on a rail", 5, 2, ["A0", "B0", "C0"], ["A0", "B0", "C0"]),
    ("two links with one end in common", 4, 2, ["A-B1", "B-C1"], ["A-B1", "B-C1"]),
    ("a slow NIC on a slower fabric", 4, 2, [("*", 0.92), "A0"], ["*", "A0"]),
    ("a bad and a slow node", 4, 2, ["A", ("B", 0.92)], ["A", "B"]),
    ("a bad NIC and a slow link", 4, 1, ["A", ("B-C", 0.92)], ["A", "B-C"]),
]


@pytest.mark.parametrize(
    ("nodes", "rails", "parts", "found"), [row[1:] for row in SEVERAL], ids=[r[0] for r in SEVERAL]
)
def test_several_bad_parts_are_named(nodes, rails, parts, found):
    seen = matrix(nodes, rails, bad(*parts))
    judgement = judge(seen)
    assert (judgement.verdict, named(seen, judgement)) == ("FAIL", found)


def test_side_of_a_nic_is_known():
    ways = [judge(matrix(3, 2, bad(part))).faults[0].part.way for part in ("A1>", "A1<", "A1")]
    assert ways == ["sends", "receives", "both"]


UNDECIDED = [
    ("only one partner measured", 3, ["A-B0"], ["A-C", "B-C"]),
    ("no cell without A measured", 3, ["A0"], ["B-C"]),
    ("the way back not measured", 4, ["A>B0"], ["B>A0"]),
    ("two rails and a NIC, or a node and a link", 3, ["0", "A1"], []),
]


@pytest.mark.parametrize(
    ("nodes", "parts", "unmeasured"), [row[1:] for row in UNDECIDED], ids=[row[0] for row in UNDECIDED]
)
def test_more_candidates_than_evidence_is_inconclusive(nodes, parts, unmeasured):
    judgement = judge(matrix(nodes, 2, bad(*parts, unmeasured=unmeasured)))
    assert (judgement.verdict, judgement.faults) == ("INCONCLUSIVE", ())
    assert len({part.name for one in judgement.undecided for part in one.candidates}) > 1


def test_what_is_certain_is_named_beside_what_is_not():
    seen = matrix(4, 1, bad("A", "B", unmeasured=["B-D"]))
    judgement = judge(seen)
    assert (judgement.verdict, named(seen, judgement)) == ("FAIL", ["A"])
    assert {part.kind for part in judgement.undecided[0].candidates} == {"node", "link"}


def test_one_rail_that_was_not_measured_does_not_widen_the_blame():
    for part in ("A0", "0"):
        seen = matrix(3, 2, bad(part, unmeasured=["1"]))
        assert named(seen, judge(seen)) == [part]


def test_healthy_fabric_passes_only_whole():
    assert judge(matrix(3, 2)).verdict == "PASS"
    assert judge(matrix(3, 2, bad(unmeasured=["A>B1"]))).verdict == "INCONCLUSIVE"
    whole = matrix(3, 2)
    assert judge(replace(whole, cells=whole.cells[1:])).verdict == "INCONCLUSIVE"


VALUES = [
    ([0.1, 0.97], "PASS"),
    ([DOWN, DOWN, 0.96], "PASS"),
    ([DOWN, DOWN, DOWN], "FAIL"),
    ([Attempt(None, "oob"), DOWN], "FAIL"),
    ([Attempt(None, "flush"), Attempt(None, "gid")], "FAIL"),
    ([Attempt(None, "oob"), Attempt(None, "image"), Attempt(None, "ifname")], "INCONCLUSIVE"),
    ([Attempt(None, "truncated"), Attempt(None, "other")], "INCONCLUSIVE"),
    ([Attempt(None, None)], "INCONCLUSIVE"),
    ([], "INCONCLUSIVE"),
    ([Attempt(390.0, "no-gdr")], "PASS"),
    ([Attempt(390.0, "socket-fallback")], "INCONCLUSIVE"),
]


@pytest.mark.parametrize(("tries", "verdict"), VALUES)
def test_value_of_a_cell(tries, verdict):
    seen = matrix(3, 2, lambda *way: tries if way == ("A", "B", 0) else HEALTHY)
    judgement = judge(seen)
    assert judgement.verdict == verdict
    assert named(seen, judgement) == (["A>B0"] if verdict == "FAIL" else [])


def test_error_class_of_a_cell_is_the_cause():
    tries = [Attempt(None, "flush"), Attempt(None, "gid")]
    (fault,) = judge(matrix(3, 2, lambda *way: tries if way == ("A", "B", 0) else HEALTHY)).faults
    assert fault.evidence[0].counted == Attempt(0.0, "gid")


def test_limits_are_those_of_the_matrix():
    lower = Thresholds(0.5, 0.6)
    assert judge(matrix(3, 2, lambda *_: 0.7, limits=lower)).verdict == "PASS"
    assert judge(matrix(3, 2, bad("A1", level=0.55), limits=lower)).verdict == "DEGRADED"


def test_port_rate_that_is_stated_too_low_hides_no_slow_nic():
    seen = replace(matrix(4, 2, bad("A1", level=0.5)), port_rate_gbps=RATE * 0.4)
    judgement = judge(seen)
    assert (judgement.verdict, named(seen, judgement)) == ("DEGRADED", ["A1"])


def test_good_cell_a_little_above_the_limit_does_not_clear_a_slow_fabric():
    lucky = {("A", "B", 0): [0.93, 0.91, 0.955], ("C", "A", 1): [0.951]}
    spread = {"A": 0.93, "B": 0.92, "C": 0.91, "D": 0.925}

    def noisy(middle):
        return [middle - 0.012, middle, middle + 0.012]

    seen = matrix(4, 2, lambda client, server, rail: lucky.get((client, server, rail), noisy(spread[server])))
    judgement = judge(seen)
    assert (judgement.verdict, named(seen, judgement)) == ("DEGRADED", ["*"])


def test_one_healthy_cell_a_little_below_the_limit_is_nobodys_fault():
    wide = {"A": 0.96, "B": 0.975, "C": 0.965, "D": 0.98}
    seen = matrix(4, 2, lambda *way: [0.945, 0.948, 0.949] if way == ("A", "B", 0) else wide[way[1]])
    judgement = judge(seen)
    assert (judgement.verdict, judgement.faults) == ("INCONCLUSIVE", ())
    assert "direction" in {part.kind for part in judgement.undecided[0].candidates}


SPREAD = {"A": 0.96, "B": 0.975, "C": 0.965, "D": 0.98}


def _spread(cells, also=lambda *_: 1.0):
    """Healthy cells that differ as real ones do, with some given and some parts that cap."""
    return lambda *way: cells.get(way, min(SPREAD[way[1]], also(*way)))


def test_bad_cells_of_nobody_are_not_degraded_by_a_slow_rail_elsewhere():
    seen = matrix(3, 3, bad("A-B0", ("1", 0.92), unmeasured=["A-C0", "B-C0"]))
    judgement = judge(seen)
    assert (judgement.verdict, named(seen, judgement)) == ("INCONCLUSIVE", ["1"])
    assert {(cell.client, cell.server) for cell in judgement.undecided[0].cells} == {("A", "B"), ("B", "A")}


def test_slow_fabric_does_not_explain_cells_that_are_far_slower():
    seen = matrix(3, 2, bad("A0", ("*", 0.92), unmeasured=["B-C0"]))
    judgement = judge(seen)
    assert (judgement.verdict, named(seen, judgement)) == ("INCONCLUSIVE", ["*"])
    assert {cell.rail for one in judgement.undecided for cell in one.cells} == {0}


def test_few_good_cells_are_no_measure_of_many_others():
    slow, slower, good = [0.905, 0.92, 0.935], [0.901, 0.902, 0.9], [0.956]
    cells = {("A", "B", 0): slower, ("C", "A", 1): slower, ("B", "D", 0): good, ("D", "C", 1): good}
    seen = matrix(4, 2, lambda *way: cells.get(way, slow))
    assert named(seen, judge(seen)) == ["*"]


def test_way_back_that_was_good_at_the_third_try_only_is_not_clear():
    seen = matrix(4, 2, _spread({("A", "B", 0): [0.92] * 3, ("B", "A", 0): [0.915, 0.925, 0.951]}))
    assert judge(seen).faults == ()
    seen = matrix(4, 2, _spread({("A", "B", 0): [0.92] * 3, ("B", "A", 0): [0.951]}))
    assert named(seen, judge(seen)) == ["A>B0"]


def test_cell_just_good_clears_a_nic_whose_others_carry_half():
    half = {("A", "B", 0): 0.5, ("B", "A", 0): 0.5, ("C", "B", 0): 0.5, ("B", "C", 0): 0.955}
    judgement = judge(matrix(3, 2, _spread(half)))
    assert (judgement.verdict, judgement.faults) == ("INCONCLUSIVE", ())


def test_two_slow_nics_are_no_slow_rail_though_the_rest_is_just_good():
    just = {("C", "D", 1): 0.951, ("D", "C", 1): 0.952}
    seen = matrix(4, 2, _spread(just, also=bad(("A1", 0.92), ("B1", 0.92))))
    assert named(seen, judge(seen)) == ["A1", "B1"]


def test_scattered_cells_between_the_limits_are_no_list_of_links():
    slow = {("A", "D", 0), ("B", "G", 1), ("C", "E", 0), ("D", "B", 1), ("E", "H", 0), ("F", "A", 1), ("G", "C", 0)}
    slow |= {("H", "F", 1), ("B", "E", 0), ("C", "H", 1), ("D", "G", 0), ("F", "D", 1)}
    judgement = judge(matrix(8, 2, lambda *way: 0.92 if way in slow else 0.96))
    assert (judgement.verdict, judgement.faults) == ("INCONCLUSIVE", ())
    assert sum(len(one.cells) for one in judgement.undecided) == len(slow)
    assert judge(matrix(8, 2, lambda *way: 0.5 if way in slow else 0.96)).verdict == "FAIL"
