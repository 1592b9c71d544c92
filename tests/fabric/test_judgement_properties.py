from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from llm_rollout.fabric.judgement import judge, weigh
from tests.fabric.matrices import RATE, bad, matrix

PARTS = st.sampled_from(["A", "B0", "C1", "A-C0", "B>D1", "0", "1", "*", "D", "D0>", "A1<", "B-C"])
LEVELS = st.sampled_from([0.0, 0.3, 0.5, 0.8, 0.92])
HOLES = st.lists(st.sampled_from(["A-B", "B>C0", "C>D1", "D0", "A1>", "0"]), max_size=3)
FAULTS = st.lists(st.tuples(PARTS, LEVELS), max_size=4)


@settings(max_examples=200)
@given(st.integers(4, 6), FAULTS, HOLES)
def test_findings_rest_on_bad_cells_and_hold_against_every_good_one(nodes, faults, holes):
    seen = matrix(nodes, 2, bad(*faults, unmeasured=holes))
    parts = seen.grid.parts()
    for fault in judge(seen).faults:
        limit = RATE * (0.90 if fault.verdict == "FAIL" else 0.95)
        assert fault.evidence
        assert all(cell.counted is not None and cell.counted.gbps < limit for cell in fault.evidence)
        inside = [cell for number, cell in seen.placed.items() if parts[fault.part] >> number & 1]
        assert all(cell.counted.gbps < 0.95 * RATE for cell in inside)


@settings(max_examples=200)
@given(st.integers(2, 5), FAULTS, HOLES)
def test_pass_means_every_cell_measured_and_good(nodes, faults, holes):
    seen = matrix(nodes, 2, bad(*faults, unmeasured=holes))
    values = [cell.counted for cell in seen.cells]
    whole = all(value is not None and value.gbps >= 0.95 * RATE for value in values)
    assert (judge(seen).verdict == "PASS") == whole


@settings(max_examples=100)
@given(st.integers(2, 5), FAULTS, HOLES, st.randoms(use_true_random=False))
def test_order_of_cells_and_nodes_changes_nothing(nodes, faults, holes, random):
    seen = matrix(nodes, 2, bad(*faults, unmeasured=holes))
    cells, names = list(seen.cells), list(seen.nodes)
    random.shuffle(cells)
    random.shuffle(names)
    turned = replace(seen, cells=cells, nodes=tuple(names))
    one, other = judge(seen), judge(turned)
    assert one.verdict == other.verdict
    assert _blamed(seen, one) == _blamed(turned, other)


def _blamed(seen, judgement):
    return {_unordered(seen, fault.part) for fault in judgement.faults}


def _unordered(seen, part):
    ends = [None if end is None else seen.nodes[end] for end in (part.node, part.peer)]
    return part.kind, frozenset(ends) if part.kind == "link" else tuple(ends), part.rail


@given(FAULTS)
def test_two_nodes_are_never_told_apart(faults):
    seen = matrix(2, 2, bad(*faults))
    assert {fault.part.kind for fault in judge(seen).faults} <= {"link", "direction", "global"}


@given(FAULTS, st.sampled_from(["simulated", "soft-roce", "rdma", "socket", "other", "tcp", "", "IB", None]))
def test_no_other_transport_passes_and_what_is_bad_is_bad_on_each(faults, transport):
    seen = matrix(4, 2, bad(*faults))
    over = judge(replace(seen, transport=transport))
    assert over.verdict != "PASS"
    assert over.faults == judge(seen).faults
    assert over.verdict == ("INCONCLUSIVE" if weigh(seen).verdict == "PASS" else weigh(seen).verdict)


@given(st.lists(st.sampled_from([0.2, 0.5, 0.92, 0.97, None]), min_size=24, max_size=24))
def test_arbitrary_cells_are_judged_without_a_guess(values):
    left = iter(values)
    seen = matrix(4, 2, lambda *_: next(left))
    judgement = judge(seen)
    assert (judgement.verdict == "FAIL") == any(fault.verdict == "FAIL" for fault in judgement.faults)
    assert judgement.faults or judgement.verdict in {"PASS", "INCONCLUSIVE"}
    assert all(cell.counted is not None for fault in judgement.faults for cell in fault.evidence)
    assert not judgement.undecided or judgement.verdict != "PASS"
