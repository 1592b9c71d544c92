import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_rollout.fabric.rounds import rounds


@given(st.integers(min_value=2, max_value=64))
def test_every_pair_meets_exactly_once(count):
    met = [pair for pairs in rounds(count) for pair in pairs]
    assert sorted(met) == list(itertools.combinations(range(count), 2))


@given(st.integers(min_value=2, max_value=64))
def test_nobody_is_in_two_pairs_of_a_round(count):
    for pairs in rounds(count):
        busy = [member for pair in pairs for member in pair]
        assert len(busy) == len(set(busy))


@given(st.integers(min_value=2, max_value=64))
def test_as_few_rounds_as_possible_and_one_bye_each_for_an_odd_count(count):
    planned = rounds(count)
    assert len(planned) == (count - 1 if count % 2 == 0 else count)
    idle = [member for pairs in planned for member in set(range(count)) - {one for pair in pairs for one in pair}]
    assert sorted(idle) == ([] if count % 2 == 0 else list(range(count)))


@pytest.mark.parametrize("count", [0, 1])
def test_no_rounds_without_a_pair(count):
    assert rounds(count) == []
