import pytest

from llm_rollout.record import RolloutResult, StepResult
from llm_rollout.steps import PIPELINE, conclude
from llm_rollout.verdict import Act, Done, Fail

NOW = 1_790_000_000.0


def result(step, verdict="done", summary="fine", remedy="", started=1.0):
    return StepResult(step=step, verdict=verdict, summary=summary, remedy=remedy, started=started)


def entry(rollout, *steps, **fields):
    whole = {"run_id": "run", "revision": "v1", "started": 0.0, "plan": rollout.plan, "steps": steps}
    return RolloutResult(**{**whole, **fields})


DONE = [result(step) for step in PIPELINE]
FAILED = result("evaluate_canary", "fail", "errors 2.1 % against 0.4 %", "compare the answers")
BACK = result("roll_back", summary="bbbbbbbb serves; aaaaaaaa is gone")


@pytest.mark.parametrize(
    ("steps", "fields", "outcome", "words"),
    [
        pytest.param(DONE, {}, "succeeded", "serves in place of bbbbbbbb", id="all done"),
        pytest.param(
            [*DONE[:6], FAILED, BACK], {}, "rolled_back",
            "evaluate_canary failed: errors 2.1 % against 0.4 %. bbbbbbbb serves; aaaaaaaa is gone.", id="rolled back",
        ),
        pytest.param([*DONE[:6], FAILED], {}, "failed", "There was no roll back", id="not rolled back"),
        pytest.param(
            [*DONE[:6], FAILED, result("roll_back", "fail", "no manifests")], {}, "failed",
            "The roll back did not end: no manifests.", id="the roll back failed",
        ),
        pytest.param([*DONE[:7], BACK], {}, "rolled_back", "Stopped before switch_service", id="no approval"),
        pytest.param(
            [*DONE[:4], result("await_cold_start", "wait", "0 of 1 groups ready"), BACK], {}, "rolled_back",
            "Stopped in await_cold_start, which was at: 0 of 1 groups ready.", id="stopped by a person",
        ),
        pytest.param(
            [result("plan_rollout", "fail", "8 GPUs are missing")], {"plan": None}, "failed",
            "8 GPUs are missing. Nothing was changed.", id="no plan",
        ),
        pytest.param(
            [*DONE[:9], result("retire_previous", "fail", "a pod does not end"), BACK], {}, "failed",
            "Revision aaaaaaaa serves and passed its bake, but is not tidied up", id="only the tidying up failed",
        ),
        pytest.param(
            [result("roll_back")], {"plan": None, "target": "bbbbbbbb"}, "succeeded", "Returned to revision bbbbbbbb",
            id="a return",
        ),
        pytest.param(
            [result("roll_back", "fail", "no GPUs")], {"plan": None, "target": "bbbbbbbb"}, "failed", "no GPUs",
            id="a return that failed",
        ),
        pytest.param([], {"plan": None, "target": "bbbbbbbb"}, "failed", "Stopped before roll_back", id="stopped"),
    ],
)  # fmt: skip
def test_the_steps_say_how_it_ended(rollout, steps, fields, outcome, words):
    verdict = conclude.decide(rollout, entry(rollout, *steps, **fields), NOW)

    assert isinstance(verdict, Act)
    assert verdict.plan.outcome == outcome
    assert words in verdict.plan.reason


def test_the_first_failure_is_the_cause(rollout):
    later = result("stage_weights", "fail", "a consequence", started=9.0)

    verdict = conclude.decide(rollout, entry(rollout, later, FAILED, BACK), NOW)

    assert verdict.plan.reason.startswith("evaluate_canary failed")


@pytest.mark.parametrize(("outcome", "expected"), [("succeeded", Done), ("rolled_back", Fail), ("failed", Fail)])
def test_only_a_rollout_that_happened_is_green(rollout, outcome, expected):
    verdict = conclude.decide(rollout, entry(rollout, FAILED, outcome=outcome, reason="because"), NOW)

    assert isinstance(verdict, expected)
    assert "because" in str(verdict)
    if expected is Fail:
        assert verdict.remedy == "compare the answers"


def test_a_run_that_never_began_is_red_and_writes_nothing(rollout):
    assert isinstance(conclude.decide(rollout, None, NOW), Fail)


def test_nothing_to_do_is_said(make_rollout):
    rollout = make_rollout(stable_revision_id="aaaaaaaa")

    assert "nothing to do" in conclude.decide(rollout, entry(rollout, *DONE), NOW).plan.reason
