import itertools

from llm_rollout.fabric.evidence import risen_counters, slow_in_company
from llm_rollout.fabric.rows import Row

NODES = ("a", "b", "c", "d")


def _row(client, server, status, gbps, hca="mlx5_0"):
    return Row(1, server, client, hca, gbps, 400.0, 2.0, status)


def _tries(statuses, nodes=NODES, hcas=("mlx5_0",)):
    """``statuses`` by cell: those of its tries; cells that are not named were good at once."""
    numbers = {"ok": 390.0, "warn": 370.0, "bad": 120.0, "could_not_run": None}
    return [
        [_row(*way, status, numbers[status], hca) for status in statuses.get(way, ["ok"])]
        for way in itertools.permutations(nodes, 2)
        for hca in hcas
    ]


def _all(statuses, nodes=NODES):
    return dict.fromkeys(itertools.permutations(nodes, 2), statuses)


def test_ways_that_are_good_alone_only_are_a_setting_with_its_remedy():
    (finding,) = slow_in_company(_tries(_all(["bad", "bad", "ok"])))
    assert (finding.kind, finding.name, finding.severity) == ("setting", "load", "bad")
    assert "mlx5_0: 12 of 12 ways are good alone only (a -> b 120 Gb/s beside others)" in finding.detail
    assert "traffic_class" in finding.remedy


def test_just_below_the_warning_limit_in_company_is_a_warning():
    (finding,) = slow_in_company(_tries(_all(["warn", "warn", "ok"])))
    assert finding.severity == "warn"


def test_one_cell_that_flaked_twice_is_nothing():
    assert slow_in_company(_tries({("a", "b"): ["bad", "bad", "ok"]})) == []


def test_what_is_bad_alone_too_is_not_the_loads_fault():
    assert slow_in_company(_tries(_all(["bad", "bad", "bad"]))) == []


def test_what_could_not_run_in_company_says_nothing():
    assert slow_in_company(_tries(_all(["could_not_run", "could_not_run", "ok"]))) == []


def test_two_nodes_on_one_device_never_had_company():
    assert slow_in_company(_tries(_all(["bad", "bad", "ok"], NODES[:2]), NODES[:2])) == []
    assert slow_in_company(_tries(_all(["bad", "bad", "ok"], NODES[:2]), NODES[:2], ("mlx5_0", "mlx5_1")))


def test_counters_are_notes_but_a_link_that_went_down_is_a_warning():
    risen = {"a": {"mlx5_0": {"out_of_sequence": 7, "np_cnp_sent": 2}}, "b": {"mlx5_1": {"link_downed": 1}}}
    note, warning = risen_counters(risen)
    assert (note.name, note.severity, note.detail) == ("a", "note", "mlx5_0: np_cnp_sent +2, out_of_sequence +7")
    assert (warning.name, warning.severity) == ("b", "warn")
    assert "cable" in warning.remedy
