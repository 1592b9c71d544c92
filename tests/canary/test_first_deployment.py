import pytest

from llm_rollout.canary.first_deployment import Floors, Tally, cut_short, judge, tally
from llm_rollout.canary.rounds import Answer


@pytest.mark.parametrize(
    ("seen", "outcome", "metric", "words"),
    [
        pytest.param(Tally(100, 0, 100, 90), "promote", None, "accuracy 0.90 over 100 tasks", id="good"),
        pytest.param(Tally(100, 2, 98, 49), "promote", None, "2 of 100 requests failed", id="exactly at the limits"),
        pytest.param(Tally(100, 3, 97, 97), "rollback", "errors", "3 of 100 requests failed (at most 2 %", id="errors"),
        pytest.param(Tally(100, 0, 100, 49), "rollback", "quality", "0.49 over 100 tasks (at least 0.50", id="wrong"),
        pytest.param(Tally(100, 100, 0, 0), "rollback", "errors", "100 of 100 requests failed", id="dead"),
        pytest.param(Tally(0, 0, 0, 0), "undecided", None, "no task was asked", id="nothing"),
    ],
)
def test_decision(seen, outcome, metric, words):
    decision = judge(Floors(0.5, 0.02), seen)

    assert (decision.outcome, decision.metric) == (outcome, metric)
    assert words in decision.sentence


def test_part_of_the_tasks_is_not_judged():
    decision = cut_short(Tally(40, 0, 40, 40), 100, "late")

    assert (decision.outcome, decision.sentence) == ("undecided", "40 of 100 tasks were asked: late")


def test_failed_requests_are_not_graded():
    answers = [Answer(ok=True, correct=True), Answer(ok=True, correct=False), Answer(ok=False)]

    assert tally(answers) == Tally(3, 1, 2, 1)
