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


@pytest.mark.parametrize(
    ("ttft_ms", "outcome", "words"),
    [
        (499.0, "promote", "first deployment"),
        (501.0, "rollback", "95 of 100 first tokens took 501 ms (at most 500 ms may)"),
        (None, "rollback", "no answer was timed (at most 500 ms may)"),
    ],
)
def test_a_limit_of_ttft_is_held_where_there_is_one(ttft_ms, outcome, words):
    seen = Tally(100, 0, 100, 90, ttft_ms)

    decision = judge(Floors(0.5, 0.02, max_ttft_ms=500), seen)

    assert (decision.outcome, decision.metric) == (outcome, "ttft" if outcome == "rollback" else None)
    assert words in decision.sentence
    assert judge(Floors(0.5, 0.02), seen).outcome == "promote"


def test_the_slowest_five_of_a_hundred_do_not_count():
    answers = [Answer(ok=True, ttft_ms=100.0 if number < 95 else 9000.0) for number in range(100)]

    assert tally(answers).ttft_ms_p95 == 100.0
    assert tally([*answers, Answer(ok=True, ttft_ms=9000.0)]).ttft_ms_p95 == 9000.0
