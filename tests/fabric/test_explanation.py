from hypothesis import given
from hypothesis import strategies as st

from llm_rollout.fabric.explanation import explain
from llm_rollout.fabric.parts import Grid, Part

GRID = Grid(4, 2)


def _suspects(*parts):
    """Parts of which every cell is bad, with what lies inside them."""
    cells = GRID.parts()
    bad = 0
    for part in parts:
        bad |= cells[part]
    return {part: mask for part, mask in cells.items() if mask & ~bad == 0}


def test_widest_part_explains_alone():
    found = explain(_suspects(Part("node", 1)))
    assert [part for part, _ in found.named] == [Part("node", 1)]
    assert found.open == ()


def test_parts_that_share_cells_are_both_needed():
    found = explain(_suspects(Part("node", 0), Part("node", 1)))
    assert {part for part, _ in found.named} == {Part("node", 0), Part("node", 1)}


def test_same_evidence_for_two_parts_is_open():
    found = explain({Part("link", 0, 1, 0): 0b11, Part("nic", 0, None, 0): 0b11})
    assert found.named == ()
    assert set(found.open[0].candidates) == {Part("link", 0, 1, 0), Part("nic", 0, None, 0)}


def test_one_rails_share_is_certain_where_the_whole_is_not():
    found = explain({Part("nic", 0, None, 1): 0b11, Part("node", 0): 0b11})
    assert found.named == ((Part("nic", 0, None, 1), 0b11),)


def test_two_smallest_explanations_leave_what_they_do_not_share_open():
    nics = {Part("nic", 0, None, 0): 0b0111, Part("nic", 1, None, 0): 0b1110}
    ways = {Part("direction", 2, 3, 0): 0b0001, Part("direction", 3, 2, 0): 0b1000}
    found = explain({**nics, **ways, Part("link", 2, 3, 1): 0b110000})
    assert [part for part, _ in found.named] == [Part("link", 2, 3, 1)]
    assert found.open[0].cells == 0b1111


def test_too_many_parts_are_no_explanation():
    overlapping = {Part("direction", 0, 1, number): 0b11 << number for number in range(60)}
    found = explain(overlapping)
    assert found.named == ()
    assert found.open


@given(st.sets(st.sampled_from(sorted(GRID.parts(), key=str)), max_size=3))
def test_every_bad_cell_is_named_or_open(parts):
    suspects = _suspects(*parts)
    found = explain(suspects)
    explained = [GRID.parts()[part] for part, _ in found.named] + [one.cells for one in found.open]
    for mask in suspects.values():
        assert all(any(mask >> bit & 1 and one >> bit & 1 for one in explained) for bit in _bits(mask))


def _bits(mask):
    return [bit for bit in range(mask.bit_length()) if mask >> bit & 1]


def test_parts_of_small_grids_are_those_that_can_be_told_apart():
    assert {part.kind for part in Grid(2, 1).parts()} == {"direction", "link"}
    assert {part.kind for part in Grid(2, 2).parts()} == {"direction", "link", "global"}
    assert {part.kind for part in Grid(3, 1).parts()} == {"direction", "link", "node", "global"}
    assert {part.kind for part in Grid(3, 2).parts()} == {"direction", "link", "node", "nic", "rail", "global"}
