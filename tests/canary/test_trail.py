import json
import random
from itertools import pairwise
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_rollout.canary import trail
from llm_rollout.canary.judge import Judge
from llm_rollout.canary.rounds import Answer, Pair
from llm_rollout.canary.rules import Rules
from llm_rollout.canary.trail import Trail

RULES = Rules(alpha=1e-9, beta=1e-9, cap_pairs=100_000, required=("errors", "quality"), tasks=100)


def play(rounds):
    """A comparison that decides nothing: its trail and every standing."""
    judge, luck, so_far = Judge(RULES), random.Random(1), Trail()  # noqa: S311 - a simulation
    standings = [judge.begin()]
    for _ in range(rounds):
        pairs = [Pair(Answer(luck.random() > 0.01), Answer(luck.random() > 0.01)) for _ in range(50)]
        standings.append(judge.after(standings[-1], pairs))
        so_far = so_far.after(RULES, standings[-1])
    return so_far, standings


@pytest.mark.parametrize("rounds", [1, 7, trail.MOST_POINTS, trail.MOST_POINTS + 1, 333])
def test_each_point_is_what_the_judge_held_after_that_round(rounds):
    found, standings = play(rounds)
    judge = Judge(RULES)

    at = trail.points(rounds)
    assert found.worse.keys() == found.not_worse.keys() == {"errors", "quality"}
    for number, worse, not_worse in zip(at, found.worse["errors"], found.not_worse["errors"], strict=True):
        assert (worse, not_worse) == pytest.approx(judge.evidence(standings[number])["errors"], rel=0.06)
    assert found.together == pytest.approx([judge.wealth(standings[number]) for number in at], rel=0.06)


@given(st.integers(1, 5000))
def test_points_are_few_evenly_spread_and_end_with_the_latest(rounds):
    at = trail.points(rounds)

    assert len(at) <= trail.MOST_POINTS + 1
    assert at[-1] == rounds
    assert len({later - one for one, later in pairwise(at[:-1])}) <= 1
    assert set(at[:-1]) <= set(trail.points(rounds - 1)), "what is kept was kept before"


def test_it_is_the_same_after_json_and_short_enough_for_the_record():
    found, _ = play(333)

    text = json.dumps(found.as_json())
    assert Trail.from_json(json.loads(text)) == found
    assert len(text) < 2000


def test_the_picture_has_both_sides_of_the_question():
    found, _ = play(9)

    picture = ET.fromstring(found.draw(0.05, 0.05, "rounds of 50 pairs"))  # noqa: S314 - ours
    words = {each.text for each in picture.iter("{http://www.w3.org/2000/svg}text")}
    assert {"roll back when together at 20", "promote when each is at 20", "together", "errors", "quality"} <= words
