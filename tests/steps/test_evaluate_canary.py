import pytest

from llm_rollout.job_output import JobOutput
from llm_rollout.manifests.canary_job import canary_job
from llm_rollout.steps import evaluate_canary
from llm_rollout.steps.jobs import Create, Delete, JobSeen
from llm_rollout.verdict import Act, Done, Fail

NOW = 1_790_000_000.0


def judged(rollout, decision, attempt="run/1", **further):
    job = canary_job(rollout.spec, rollout.planned, rollout.run_id, attempt)
    job = {**job, "metadata": {**job["metadata"], "uid": "u"}}
    job["status"] = {"conditions": [{"type": "Complete", "status": "True"}]}
    report = {"decision": decision, "metric": "errors", "sentence": "2.1 % against 0.4 %", "pairs": 300, **further}
    return JobSeen(job, (), JobOutput(report=report if decision else {}))


@pytest.mark.parametrize(
    ("decision", "expected", "words"),
    [
        pytest.param("promote", Done, "2.1 % against 0.4 %", id="promote"),
        pytest.param(
            "rollback", Fail, "aaaaaaaa is worse (errors): 2.1 % against 0.4 %", id="rollback names the metric"
        ),
        pytest.param("undecided", Fail, "not enough evidence after 300 pairs", id="undecided holds"),
        pytest.param("", Fail, "without a report", id="no report"),
    ],
)
def test_only_promote_goes_on(rollout, decision, expected, words):
    verdict = evaluate_canary.decide(rollout, judged(rollout, decision), NOW)

    assert isinstance(verdict, expected)
    assert words in str(verdict)


def test_undecided_says_which_field_to_raise(rollout):
    verdict = evaluate_canary.decide(rollout, judged(rollout, "undecided"), NOW)

    assert "canary.max_pairs above 3000" in verdict.remedy


@pytest.mark.parametrize(("decision", "expected"), [("promote", Done), ("rollback", Act), ("undecided", Act)])
def test_a_bad_result_of_an_earlier_try_is_compared_again(rollout, decision, expected):
    verdict = evaluate_canary.decide(rollout, judged(rollout, decision, attempt="run/0"), NOW)

    assert isinstance(verdict, expected)
    if expected is Act:
        assert isinstance(verdict.plan, Delete)


@pytest.mark.parametrize(
    ("plan", "has_stable"),
    [({}, True), ({"stable_lws": None, "stable_revision_id": None}, False)],
    ids=["upgrade", "first"],
)
def test_a_first_deployment_is_held_against_nothing(make_rollout, plan, has_stable):
    verdict = evaluate_canary.decide(make_rollout(**plan), JobSeen(None), NOW)

    assert isinstance(verdict.plan, Create)
    command = verdict.plan.manifests[0]["spec"]["template"]["spec"]["containers"][0]["command"]
    assert any(word.startswith("--stable=") for word in command) is has_stable


def test_each_run_compares_for_itself(world, run_of, drive_before, advance):
    drive_before("evaluate_canary", run_of())
    advance("evaluate_canary", run_of())
    before = len(world.cluster.writes)

    advance("evaluate_canary", run_of(attempt=2))

    assert not [what for what in world.cluster.writes[before:] if "Job" in what]
