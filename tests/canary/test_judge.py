import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_rollout.canary import standing_json
from llm_rollout.canary.judge import Judge
from llm_rollout.canary.rules import MARGIN, WEIGHTS
from llm_rollout.canary.rules import Rules as AnyRules
from tests.canary.worlds import (
    BOTH_FAILED,
    CANDIDATE_FAILED,
    CLEAN,
    LOST,
    SAME,
    STABLE_FAILED,
    WON,
    ends,
    pair,
    play,
    world,
)


def Rules(**given):  # noqa: N802 - as the class, for errors and quality alone
    weights = {name: WEIGHTS[name] for name in ("errors", "quality")}
    return AnyRules(**{"required": ("errors", "quality"), "weights": weights} | given)


WRONG = pair(grades=(False, False))


def after(rules, *rounds):
    judge = Judge(rules)
    standing = judge.begin()
    for each in rounds:
        standing = judge.after(standing, each)
    return standing


def repeated(rounds, *parts):
    return [[each for each, number in parts for _ in range(number)] for _ in range(rounds)]


OPEN, SMALL_SET = Rules(cap_pairs=1000), Rules(cap_pairs=1000, tasks=100)
GRADED_100 = repeated(2, (SAME, 50))


@pytest.mark.parametrize(
    ("rules", "rounds", "outcome", "metric"),
    [
        pytest.param(OPEN, repeated(20, (SAME, 50)), "promote", None, id="the same answers"),
        pytest.param(OPEN, repeated(6, (SAME, 50)), "continue", None, id="too early"),
        pytest.param(OPEN, repeated(6, (CANDIDATE_FAILED, 50)), "rollback", "errors", id="candidate dead"),
        pytest.param(OPEN, repeated(20, (CLEAN, 50)), "undecided", None, id="nothing graded"),
        pytest.param(OPEN, repeated(20, (STABLE_FAILED, 50)), "undecided", None, id="stable dead"),
        pytest.param(OPEN, repeated(20, (BOTH_FAILED, 50)), "undecided", None, id="both dead"),
        pytest.param(OPEN, repeated(20, (SAME, 44), (STABLE_FAILED, 6)), "undecided", None, id="stable sick"),
        pytest.param(OPEN, repeated(10, (SAME, 40), (LOST, 10)), "rollback", "quality", id="worse answers"),
        pytest.param(OPEN, repeated(20, (SAME, 36), (LOST, 7), (WON, 7)), "undecided", None, id="noisy answers"),
        pytest.param(OPEN, repeated(20, (WRONG, 50)), "promote", None, id="both equally wrong"),
        pytest.param(
            SMALL_SET, [*GRADED_100, *repeated(18, (CLEAN, 50))], "promote", None, id="a whole set and no difference"
        ),
        pytest.param(
            SMALL_SET, repeated(2, (SAME, 40), (LOST, 10)), "rollback", "quality", id="a whole set and 20 points lost"
        ),
        pytest.param(
            SMALL_SET,
            [*repeated(1, (SAME, 46), (LOST, 4)), *repeated(1, (SAME, 50)), *repeated(18, (CLEAN, 50))],
            "undecided",
            None,
            id="a whole set and 4 points lost, which may be chance",
        ),
        pytest.param(
            SMALL_SET,
            [*repeated(1, (SAME, 48), (LOST, 2)), *repeated(1, (SAME, 50)), *repeated(18, (CLEAN, 50))],
            "promote",
            None,
            id="a whole set and 2 points lost, below the margin",
        ),
        pytest.param(
            SMALL_SET,
            [*repeated(1, (SAME, 50)), *repeated(19, (CLEAN, 50))],
            "undecided",
            None,
            id="half a set is not known",
        ),
    ],
)
def test_decision(rules, rounds, outcome, metric):
    decision = after(rules, *rounds).decision

    assert (decision.outcome, decision.metric) == (outcome, metric), decision.sentence


def test_a_quality_rollback_says_both_accuracies_and_the_counts():
    sentence = after(Rules(tasks=100), *repeated(2, (WRONG, 2), (SAME, 30), (LOST, 18))).decision.sentence

    assert sentence.startswith("accuracy 0.60 against 0.96 of stable over 100 pairs: of 36 prompts")
    assert "36 were the candidate's" in sentence


def test_an_error_rollback_says_how_many_failed_on_which_side():
    sentence = after(OPEN, *repeated(9, (SAME, 40), (CANDIDATE_FAILED, 9), (STABLE_FAILED, 1))).decision.sentence

    assert "requests failed (18.0 %) against" in sentence
    assert "(2.0 %) of stable" in sentence


@pytest.mark.parametrize(
    ("rounds", "words"),
    [
        (repeated(20, (STABLE_FAILED, 50)), "stable itself failed"),
        (repeated(20, (CLEAN, 50)), "evidence of 20 is needed, quality 1.0 was found (the cap is 1000 pairs)"),
    ],
    ids=["stable dead", "nothing graded"],
)
def test_undecided_says_what_was_missing(rounds, words):
    assert words in after(OPEN, *rounds).decision.sentence


def test_too_few_rounds_for_a_promotion_are_named():
    rules = Rules(cap_pairs=300, margin={**MARGIN, "errors": 0.05, "quality": 0.05}, tasks=100)

    assert "7 rounds are needed and 6 were played" in after(rules, *repeated(6, (SAME, 50))).decision.sentence


def test_undecided_comes_at_the_cap_and_not_before():
    rounds = repeated(20, (CLEAN, 50))

    assert after(OPEN, *rounds[:-1]).decision.outcome == "continue"
    assert after(OPEN, *rounds).decision.outcome == "undecided"


def test_a_cap_that_is_no_multiple_of_the_round_is_reached():
    standing = after(Rules(cap_pairs=120), *repeated(2, (CLEAN, 50)), [CLEAN] * 20)

    assert (standing.decision.outcome, standing.totals.pairs) == ("undecided", 120)


def test_a_burst_on_stable_does_not_promote_a_candidate_that_fails():
    rounds = [*repeated(2, (STABLE_FAILED, 25), (SAME, 25)), *repeated(18, (SAME, 49), (CANDIDATE_FAILED, 1))]

    assert after(OPEN, *rounds).decision.outcome != "promote"


def test_a_candidate_that_dies_in_mid_comparison_is_rolled_back():
    rounds = [*repeated(5, (SAME, 50)), *repeated(15, (CANDIDATE_FAILED, 50))]

    assert after(OPEN, *rounds).decision.metric == "errors"


def test_a_candidate_that_is_dead_from_the_start_is_found_in_five_rounds():
    standing = after(AnyRules(), *repeated(20, (CANDIDATE_FAILED, 50)))

    assert (standing.decision.metric, standing.rounds) == ("errors", 5)


def test_stable_that_dies_in_mid_comparison_does_not_promote():
    rounds = [*repeated(5, (SAME, 50)), *repeated(15, (STABLE_FAILED, 50))]

    assert after(OPEN, *rounds).decision.outcome == "undecided"


def test_a_round_in_which_a_sick_stable_had_luck_is_not_heard():
    (sick,), (well,) = repeated(1, (STABLE_FAILED, 6), (SAME, 44)), repeated(1, (SAME, 50))

    assert after(OPEN, *[sick, well] * 10).decision.outcome == "undecided"
    assert after(Rules(), *[sick, well, well] * 20).decision.outcome == "promote"


def test_a_final_decision_stays():
    decided = after(OPEN, *repeated(6, (CANDIDATE_FAILED, 50)))

    assert Judge(OPEN).after(decided, [SAME] * 50) == decided
    assert Judge(OPEN).close(decided, "late") == decided


def test_no_pairs_are_no_evidence():
    standing = after(OPEN, [SAME] * 50)

    assert Judge(OPEN).after(standing, []) == standing


KINDS = st.sampled_from([SAME, LOST, WON, CLEAN, CANDIDATE_FAILED, STABLE_FAILED, BOTH_FAILED])
PAIRS = st.lists(KINDS, max_size=300)
SOME_RULES = Rules(round_pairs=10, cap_pairs=200, min_rounds=2)


@given(PAIRS, st.lists(st.integers(1, 60), min_size=1, max_size=60))
@settings(max_examples=100, deadline=None)
def test_small_rounds_are_gathered_and_only_at_their_ends_it_is_decided(pairs, sizes):
    judge, standing, at = Judge(SOME_RULES), Judge(SOME_RULES).begin(), 0
    for size in sizes:
        before = standing
        standing = judge.after(standing, pairs[at : at + size])
        at += size
        assert len(standing.waiting) < SOME_RULES.round_pairs
        assert standing.rounds - before.rounds <= 1 + size // SOME_RULES.round_pairs


@given(PAIRS, st.integers(0, 300))
@settings(max_examples=100, deadline=None)
def test_a_standing_that_was_stored_goes_on_as_if_it_never_stopped(pairs, cut):
    judge = Judge(SOME_RULES)
    before = judge.after(judge.begin(), pairs[:cut])
    stored = standing_json.from_json(json.loads(json.dumps(standing_json.as_json(before))))

    assert judge.after(stored, pairs[cut:]) == judge.after(before, pairs[cut:])


@given(st.lists(st.sampled_from([LOST, CANDIDATE_FAILED, BOTH_FAILED, CLEAN, STABLE_FAILED]), max_size=300))
@settings(max_examples=100, deadline=None)
def test_nothing_is_promoted_without_one_answer_as_good_as_stables(pairs):
    standing = Judge(SOME_RULES).begin()
    for at in range(0, len(pairs), 10):
        standing = Judge(SOME_RULES).after(standing, pairs[at : at + 10])
    assert standing.decision.outcome != "promote"


def incident(source, before):
    rate = 0.03 if 1000 <= before < 2000 else 0.005
    return world(rate, rate)(source, before)


def at_the_error_margin(source, before):
    return world(candidate_errors=0.015)(source, before)


@pytest.mark.parametrize("draw", [world(), incident], ids=["the same model twice", "an incident on both"])
def test_at_most_one_in_twenty_as_good_as_stable_is_rolled_back(draw):
    assert ends(Rules(), draw, 300)["rollback"] <= 15


@pytest.mark.parametrize(
    ("draw", "tasks"),
    [
        pytest.param(world(candidate_errors=0.02), None, id="2 % errors against 0.5 %"),
        pytest.param(world(lost=0.05), None, id="accuracy 3 points lower"),
        pytest.param(world(lost=0.12), None, id="accuracy 10 points lower"),
        pytest.param(world(lost=0.12), 1000, id="accuracy 10 points lower, 1,000 tasks"),
    ],
)
def test_a_worse_candidate_is_caught(draw, tasks):
    found = ends(Rules(tasks=tasks), draw, 100)

    assert found["rollback"] >= 97
    assert found["promote"] <= 1


def test_a_candidate_that_is_worse_by_exactly_a_margin_is_seldom_promoted():
    assert ends(Rules(), at_the_error_margin, 150)["promote"] <= 7


def test_a_candidate_as_good_as_stable_is_promoted():
    assert ends(Rules(), world(), 100)["promote"] >= 90


def test_a_thousand_rounds_are_judged_in_a_second():
    began = time.process_time()
    standing = play(Rules(cap_pairs=50_000), lambda _source, _before: CLEAN)

    assert standing.rounds == 1000
    assert time.process_time() - began < 1
