import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_rollout.fabric.attribution import Attribution, attribute
from llm_rollout.fabric.rows import Row, Try


def _rows(count, bad_pairs, hcas=("mlx5_0",), bad_hcas=None, **special):
    return [
        _row((server, client), hca, is_bad=hca in (bad_hcas or hcas) and _pair(server, client) in bad_pairs, **special)
        for hca in hcas
        for one, other in itertools.combinations("ABCDEF"[:count], 2)
        for server, client in ((one, other), (other, one))
    ]


def _pair(server, client):
    return "".join(sorted(server + client))


def _row(way, hca, *, is_bad, missing=(), one_way=()):
    server, client = way
    is_bad = is_bad and (not one_way or client + server in one_way)
    status = "could_not_run" if _pair(server, client) in missing else "bad" if is_bad else "ok"
    return Row(1, server, client, hca, 118.0 if is_bad else 390.0, 400.0, 2.0, status, "118 Gb/s" if is_bad else "")


TWO_RAILS = ("mlx5_0", "mlx5_1")

TABLE = [
    ("nothing bad", _rows(3, []), []),
    ("AB and AC bad, BC good", _rows(3, ["AB", "AC"]), [("node", "A")]),
    ("AB and BC bad, AC good", _rows(3, ["AB", "BC"]), [("node", "B")]),
    ("only AB bad", _rows(3, ["AB"]), [("link", "A <-> B")]),
    ("bad only from A to B", _rows(3, ["AB"], one_way=["AB"]), [("direction", "A -> B")]),
    ("A sends badly to everybody", _rows(3, ["AB", "AC"], one_way=["AB", "AC"]), [("node", "A")]),
    ("A is bad on one rail of two", _rows(3, ["AB", "AC"], TWO_RAILS, ["mlx5_1"]), [("nic", "A")]),
    ("all bad on one rail", _rows(3, ["AB", "AC", "BC"], TWO_RAILS, ["mlx5_1"]), [("rail", "mlx5_1")]),
    ("all bad on all rails", _rows(3, ["AB", "AC", "BC"], TWO_RAILS), [("global", "all 2 devices")]),
    ("node bad on all rails", _rows(3, ["AB", "AC"], TWO_RAILS), [("node", "A")]),
    ("two members, bad", _rows(2, ["AB"]), [("link", "A <-> B")]),
    ("two bad nodes among four", _rows(4, ["AB", "AC", "AD", "BC", "BD"]), [("node", "A"), ("node", "B")]),
    ("bad node and another bad link", _rows(5, ["AB", "AC", "AD", "AE", "CD"]), [("link", "C <-> D"), ("node", "A")]),
    ("two links apart", _rows(4, ["AB", "CD"]), [("link", "A <-> B"), ("link", "C <-> D")]),
    ("three links, each end good with others", _rows(4, ["AB", "BC", "CD"]), [
        ("link", "A <-> B"), ("link", "B <-> C"), ("link", "C <-> D"),
    ]),
    ("not measured is not bad", _rows(3, [], missing=["AB", "AC"]), []),
    ("one bad pair, no other measured", _rows(3, ["AB"], missing=["AC", "BC"]), []),
]  # fmt: skip


@pytest.mark.parametrize(("rows", "blamed"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_decision_table(rows, blamed):
    assert sorted((blame.kind, blame.name) for blame in attribute(rows)) == blamed


def test_details_begin_with_the_device_and_have_numbers():
    (nic,) = attribute(_rows(3, ["AB", "AC"], TWO_RAILS, ["mlx5_1"]))
    assert nic.detail == "mlx5_1: 118 Gb/s (with 2 of 2 partners)"
    (node,) = attribute(_rows(3, ["AB", "AC"], TWO_RAILS))
    assert node.detail.startswith("all 2 devices: 118 Gb/s")
    (direction,) = attribute(_rows(3, ["AB"], one_way=["AB"]))
    assert direction.detail.startswith("mlx5_0: 118 Gb/s (only this way: the transmit side of the first")
    (sender,) = attribute(_rows(3, ["AB", "AC"], one_way=["AB", "AC"]))
    assert "only sending" in sender.detail
    (pair,) = attribute(_rows(2, ["AB"]))
    assert "either end may be the cause" in pair.detail


def test_rails_and_settings_say_where_to_look():
    (one_rail,) = attribute(_rows(3, ["AB", "AC", "BC"], TWO_RAILS, ["mlx5_1"]))
    (everything,) = attribute(_rows(3, ["AB", "AC", "BC"], TWO_RAILS))
    assert "this rail" in one_rail.detail
    assert "traffic class" in everything.detail
    assert "two bad ones look the same" in everything.detail
    (four,) = attribute(_rows(4, ["AB", "AC", "AD", "BC", "BD", "CD"], TWO_RAILS))
    assert "look the same" not in four.detail


def test_undecided_rows_name_their_candidates():
    found = Attribution(tuple(_rows(3, ["AB"], missing=["AC", "BC"])))
    (said,) = found.undecided()
    assert said.startswith("B -> A mlx5_0: 118 Gb/s: it may be ")
    assert all(part in said for part in ("link A <-> B", "node A", "node B", "more candidates than evidence"))


def test_best_try_counts_and_a_try_that_could_not_run_does_not():
    rows = _rows(3, ["AB", "AC"])
    lost, bad = Try(None, None, "could_not_run", "no answer"), Try(118.0, 2.0, "bad", "118 Gb/s")
    tried = [Row(**{**vars(row), "attempts": (lost, bad)}) if row.status == "bad" else row for row in rows]
    assert [(blame.kind, blame.name) for blame in attribute(tried)] == [("node", "A")]
    once_good = [Row(**{**vars(row), "attempts": (bad, Try(390.0, 2.0, "ok", ""))}) for row in rows]
    assert attribute(once_good) == []


def test_bad_latency_is_bad_though_the_bandwidth_is_good():
    slow = [
        Row(1, row.server, row.client, row.hca, 390.0, 400.0, 30.0, row.status, row.detail)
        for row in _rows(3, ["AB", "AC"])
    ]
    assert [(blame.kind, blame.name) for blame in attribute(slow)] == [("node", "A")]


@given(st.integers(3, 6), st.data())
def test_one_bad_node_is_always_named_alone(count, data):
    bad = data.draw(st.sampled_from("ABCDEF"[:count]))
    pairs = [one + other for one, other in itertools.combinations("ABCDEF"[:count], 2) if bad in one + other]
    assert [(blame.kind, blame.name) for blame in attribute(_rows(count, pairs))] == [("node", bad)]


@given(st.integers(3, 6), st.data())
def test_one_bad_link_is_always_named_alone(count, data):
    pairs = [one + other for one, other in itertools.combinations("ABCDEF"[:count], 2)]
    bad = data.draw(st.sampled_from(pairs))
    assert [(blame.kind, blame.name) for blame in attribute(_rows(count, [bad]))] == [
        ("link", f"{bad[0]} <-> {bad[1]}")
    ]


@given(st.integers(2, 6), st.data())
def test_every_bad_pair_is_explained_or_undecided(count, data):
    pairs = [one + other for one, other in itertools.combinations("ABCDEF"[:count], 2)]
    bad = data.draw(st.lists(st.sampled_from(pairs), unique=True))
    found = Attribution(tuple(_rows(count, bad)))
    nodes = {blame.name for blame in found.blames() if blame.kind == "node"}
    links = {blame.name.replace(" <-> ", "") for blame in found.blames() if blame.kind == "link"}
    everything = any(blame.kind == "global" for blame in found.blames())
    left = [pair for pair in bad if not (everything or nodes & set(pair) or pair in links)]
    assert bool(left) == bool(found.undecided())
    assert links <= set(bad)
