import pytest

from llm_rollout.canary import resumption
from llm_rollout.canary.judge import Judge
from llm_rollout.canary.rotation import Rotation
from llm_rollout.canary.rules import Rules
from llm_rollout.canary.task_set import Task
from llm_rollout.canary.trail import Trail
from llm_rollout.job_output import JobOutput
from llm_rollout.manifests.canary_job import canary_job, resumed_from
from llm_rollout.steps import evaluate_canary
from llm_rollout.steps.evaluate_canary import Keep, Seen
from llm_rollout.steps.jobs import Create, Delete, JobSeen
from llm_rollout.testing import Ending
from llm_rollout.verdict import Act, Done, Fail, Wait

NOW = 1_790_000_000.0


def judged(rollout, decision, attempt="run/1", **further):
    job = canary_job(rollout.spec, rollout.planned, rollout.run_id, attempt)
    job = {**job, "metadata": {**job["metadata"], "uid": "u"}}
    job["status"] = {"conditions": [{"type": "Complete", "status": "True"}]}
    report = {"decision": decision, "metric": "errors", "sentence": "2.1 % against 0.4 %", "pairs": 300, **further}
    return Seen(JobSeen(job, (), JobOutput(report=report if decision else {})))


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


def pots(rounds):
    worse = {"errors": tuple(1.0 + number for number in range(rounds))}
    return Trail(rounds, worse["errors"], worse, worse)


def test_the_pots_are_drawn_and_the_verdict_says_where(rollout, world):
    seen = judged(rollout, "rollback", trail=pots(3).as_json())

    kept = evaluate_canary.keep(rollout, seen, world.ports)
    verdict = evaluate_canary.decide(rollout, kept, NOW)

    assert "roll back when together at 20" in world.evidence.kept["chat/run/evaluate_canary.svg"]
    assert verdict.evidence["chart"].endswith("chat/run/evaluate_canary.svg")
    assert verdict.evidence["trail"]["worse"] == {"errors": (1.0, 2.0, 3.0)}


def test_a_comparison_that_runs_is_drawn_as_far_as_it_is(rollout, world):
    standing, rotation = Judge(Rules()).begin(), Rotation((Task("a", "1", "1?"),), 1)
    said = resumption.pack(standing, rotation, pots(2), "any")

    evaluate_canary.keep(rollout, running(rollout, said=said), world.ports)

    assert "2 rounds of 50 pairs" in world.evidence.kept["chat/run/evaluate_canary.svg"]


@pytest.mark.parametrize("said", ["", "of another version"])
def test_nothing_is_drawn_of_what_cannot_be_read(rollout, world, said):
    seen = running(rollout, said=said)

    assert evaluate_canary.keep(rollout, seen, world.ports) == seen
    assert world.evidence.kept == {}


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
    verdict = evaluate_canary.decide(make_rollout(**plan), Seen(JobSeen(None)), NOW)

    assert isinstance(verdict.plan, Create)
    command = verdict.plan.manifests[0]["spec"]["template"]["spec"]["containers"][0]["command"]
    assert any(word.startswith("--stable=") for word in command) is has_stable


def running(rollout, *, said="", kept="", begun="", failed=False, attempt="run/1"):
    """A Job that was started with a state, said another one, and one that the record holds."""
    job = canary_job(rollout.spec, rollout.planned, rollout.run_id, attempt, begun)
    job = {**job, "metadata": {**job["metadata"], "uid": "u"}}
    conditions = [{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": "killed"}]
    job["status"] = {"conditions": conditions if failed else []}
    progress = {"round": 4, "pairs": 200, **({"state": said} if said else {})}
    return Seen(JobSeen(job, (), JobOutput(progress=progress)), kept)


@pytest.mark.parametrize(("said", "kept"), [("new", "old"), ("new", ""), ("", "new")])
def test_a_running_comparison_carries_its_newest_state(rollout, said, kept):
    verdict = evaluate_canary.decide(rollout, running(rollout, said=said, kept=kept), NOW)

    assert isinstance(verdict, Wait)
    assert verdict.progress["state"] == "new"


def test_an_interrupted_job_is_deleted_once_the_record_holds_its_state(rollout):
    first = evaluate_canary.decide(rollout, running(rollout, said="new", kept="old", failed=True), NOW)
    then = evaluate_canary.decide(rollout, running(rollout, said="new", kept="new", failed=True), NOW)

    assert (type(first.plan), first.plan.state) == (Keep, "new")
    assert isinstance(then.plan, Delete)


def test_a_job_whose_log_is_gone_goes_on_from_the_record(rollout):
    verdict = evaluate_canary.decide(rollout, running(rollout, kept="new", begun="old", failed=True), NOW)

    assert isinstance(verdict.plan, Delete)


@pytest.mark.parametrize("begun", ["", "state"])
def test_a_job_that_came_no_further_has_failed(rollout, begun):
    verdict = evaluate_canary.decide(rollout, running(rollout, kept=begun, begun=begun, failed=True), NOW)

    assert isinstance(verdict, Fail)
    assert verdict.evidence.get("state", "") == begun


def test_a_job_of_an_earlier_try_is_deleted_once_the_record_holds_its_state(rollout):
    seen = [running(rollout, said="new", kept=kept, failed=True, attempt="run/0") for kept in ("", "new")]

    verdicts = [evaluate_canary.decide(rollout, each, NOW) for each in seen]

    assert [type(each.plan) for each in verdicts] == [Keep, Delete]


def test_the_next_job_begins_where_the_record_says(rollout):
    verdict = evaluate_canary.decide(rollout, Seen(JobSeen(None), "state"), NOW)

    assert resumed_from(verdict.plan.manifests[0]) == "state"


def test_a_comparison_that_ran_out_of_time_goes_on_when_it_is_cleared(rollout):
    late = judged(rollout, "undecided", state="state")

    verdict = evaluate_canary.decide(rollout, late, NOW)

    assert verdict.evidence["state"] == "state"
    assert "clear this task: it goes on with the same pots" in verdict.remedy


def test_a_killed_comparison_goes_on_with_its_pots_in_the_same_run(world, run_of, drive_before):
    """The whole way: a Job dies, its state goes through the record into the next Job, which ends it."""
    rollout = drive_before("evaluate_canary", run_of())
    begun = []
    good = world.controllers.job_ends["evaluate_canary"]

    def ends(job):
        if not begun or begun[-1][0] != job["metadata"]["uid"]:
            begun.append((job["metadata"]["uid"], resumed_from(job)))
        killed = {"event": "progress", "round": 4, "pairs": 200, "state": "pots"}
        return good if resumed_from(job) else Ending(killed, succeeded=False)

    world.controllers.job_ends["evaluate_canary"] = ends

    verdict = world.drive("evaluate_canary", rollout)

    assert isinstance(verdict, Done)
    assert [state for _, state in begun] == ["", "pots"]


def test_a_state_is_kept_whatever_is_noted_of_the_step(world, run_of, drive_before):
    rollout = drive_before("evaluate_canary", run_of())
    for state in ("first", "second"):
        evaluate_canary.act(Keep(rollout, state, NOW), world.ports)

        assert evaluate_canary.observe(rollout, world.ports).kept == state


def test_each_run_compares_for_itself(world, run_of, drive_before, advance):
    drive_before("evaluate_canary", run_of())
    advance("evaluate_canary", run_of())
    before = len(world.cluster.writes)

    advance("evaluate_canary", run_of(attempt=2))

    assert not [what for what in world.cluster.writes[before:] if "Job" in what]
