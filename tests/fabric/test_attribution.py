import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_rollout.fabric.attribution import attribute
from llm_rollout.fabric.rows import Row


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
    ("bad only from A to B", _rows(3, ["AB"], one_way=["AB"]), [("link", "A <-> B")]),
    ("A sends badly to everybody", _rows(3, ["AB", "AC"], one_way=["AB", "AC"]), [("node", "A")]),
    ("all bad on one rail", _rows(3, ["AB", "AC", "BC"], TWO_RAILS, ["mlx5_1"]), [("setting", "mlx5_1")]),
    ("all bad on all rails", _rows(3, ["AB", "AC", "BC"], TWO_RAILS), [("setting", "all 2 devices")]),
    ("node bad on all rails", _rows(3, ["AB", "AC"], TWO_RAILS), [("node", "A")]),
    ("two members, bad", _rows(2, ["AB"]), [("link", "A <-> B")]),
    ("two bad nodes among four", _rows(4, ["AB", "AC", "AD", "BC", "BD"]), [("node", "A"), ("node", "B")]),
    ("bad node and another bad link", _rows(5, ["AB", "AC", "AD", "AE", "CD"]), [("node", "A"), ("link", "C <-> D")]),
    ("two links apart", _rows(4, ["AB", "CD"]), [("link", "A <-> B"), ("link", "C <-> D")]),
    ("a chain of three bad pairs", _rows(4, ["AB", "BC", "CD"]), [("node", "B"), ("node", "C")]),
    ("not measured is not bad", _rows(3, [], missing=["AB", "AC"]), []),
    ("only measured pairs count", _rows(3, ["AB"], missing=["AC", "BC"]), [("link", "A <-> B")]),
]


@pytest.mark.parametrize(("rows", "blamed"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_decision_table(rows, blamed):
    assert [(blame.kind, blame.name) for blame in attribute(rows)] == blamed


def test_details_carry_device_numbers_and_direction():
    (blame,) = attribute(_rows(3, ["AB"], one_way=["AB"]))
    assert blame.detail.startswith("mlx5_0: 118 Gb/s")
    assert "only A -> B" in blame.detail


def test_rails_and_settings_say_where_to_look():
    (one_rail,) = attribute(_rows(3, ["AB", "AC", "BC"], TWO_RAILS, ["mlx5_1"]))
    (everything,) = attribute(_rows(3, ["AB", "AC", "BC"], TWO_RAILS))
    assert "this rail" in one_rail.detail
    assert "class of traffic" in everything.detail
    assert "two bad ones look the same" in everything.detail


@given(st.integers(4, 6), st.data())
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
def test_every_bad_pair_is_explained_by_something_named(count, data):
    pairs = [one + other for one, other in itertools.combinations("ABCDEF"[:count], 2)]
    bad = data.draw(st.lists(st.sampled_from(pairs), unique=True))
    blames = attribute(_rows(count, bad))
    nodes = {blame.name for blame in blames if blame.kind == "node"}
    links = {blame.name.replace(" <-> ", "") for blame in blames if blame.kind == "link"}
    everything = any(blame.kind == "setting" for blame in blames)
    assert all(everything or nodes & set(pair) or pair in links for pair in bad)
    assert links <= set(bad)
