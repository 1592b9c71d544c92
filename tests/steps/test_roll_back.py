import json

import pytest

from llm_rollout import clock, kinds, names
from llm_rollout.manifests.service import service
from llm_rollout.record import Record, Revision, RolloutResult, StepResult
from llm_rollout.rollout import PREVIOUS, Rollout
from llm_rollout.steps import recovery, roll_back
from llm_rollout.steps.group_state import GroupState
from llm_rollout.steps.recovery import Goal, Note, Remove, Seen
from llm_rollout.steps.traffic import Switch, Traffic
from llm_rollout.testing import Ending
from llm_rollout.verdict import Act, Done, Fail, Wait

NOW = 1_790_000_000.0


def revision(name):
    return Revision(revision_id=name, commit=name[0] * 40, lws=f"chat-{name}", manifests=({"kind": "LeaderWorkerSet"},))


OLD, NEW = revision("bbbbbbbb"), revision("aaaaaaaa")
TO_STABLE = Goal("bbbbbbbb", "aaaaaaaa", OLD, 7, is_return=False)
TO_NOTHING = Goal(None, "aaaaaaaa", None, 7, is_return=False)


@pytest.fixture
def stable(serving, make_rollout, make_pod):
    lws = serving(make_rollout(lws="chat-bbbbbbbb", revision_id="bbbbbbbb"))
    workers = [make_pod(f"chat-bbbbbbbb-0-{index}", "worker") for index in (1, 2)]
    return GroupState(lws, (make_pod("chat-bbbbbbbb-0"), *workers))


@pytest.fixture
def seen(rollout, make_service):
    def state(selected, target, goal=TO_STABLE, switched_ago=3600.0, current=OLD, **fields):
        begun = RolloutResult(run_id="run", revision="v1", started=NOW - 100, plan=rollout.plan)
        found = Record(name="chat", current=current, rollouts=(fields.pop("entry", begun),))
        behind = Traffic(
            make_service(rollout, selected, clock.rfc3339(NOW - switched_ago)),
            fields.pop("endpoints", ("chat-bbbbbbbb-0",)),
        )
        rest = {"doomed": (), "pods": (), "jobs": (), "scaler": None, "unanswered": ""}
        return Seen(goal=goal, record=found, traffic=behind, target=target, **{**rest, **fields})

    return state


def plan_of(verdict):
    assert isinstance(verdict, Act), verdict
    return verdict.plan


def test_clients_go_back_first_whatever_else_there_is_to_do(rollout, seen, stable, serving):
    verdict = roll_back.decide(rollout, seen("aaaaaaaa", stable, current=NEW, doomed=(serving(),)), NOW)

    plan = plan_of(verdict)
    assert isinstance(plan, Switch)
    assert plan.revision_id == "bbbbbbbb"


def test_a_part_of_stable_is_better_than_the_candidate(rollout, seen, stable, serving, make_rollout):
    partial = GroupState(serving(make_rollout(lws="chat-bbbbbbbb"), readyReplicas=0), stable.pods)

    assert isinstance(plan_of(roll_back.decide(rollout, seen("aaaaaaaa", partial), NOW)), Switch)


def test_stable_that_is_gone_is_made_again_before_clients_leave_the_candidate(rollout, seen):
    plan = plan_of(roll_back.decide(rollout, seen("aaaaaaaa", GroupState(None)), NOW))

    assert plan == recovery.Apply(OLD.manifests)


@pytest.mark.parametrize("case", ["coming back", "being deleted"])
def test_the_candidate_serves_until_stable_does(rollout, seen, serving, make_rollout, case):
    lws = serving(make_rollout(lws="chat-bbbbbbbb"), readyReplicas=0)
    if case == "being deleted":
        lws["metadata"]["deletionTimestamp"] = "2026-11-24T10:00:00Z"

    assert isinstance(roll_back.decide(rollout, seen("aaaaaaaa", GroupState(lws)), NOW), Wait)


def test_stable_that_nobody_remembers_is_a_failure_that_touches_nothing(rollout, seen):
    goal = Goal("bbbbbbbb", "aaaaaaaa", None, 7, is_return=False)

    verdict = roll_back.decide(rollout, seen("aaaaaaaa", GroupState(None), goal), NOW)

    assert isinstance(verdict, Fail)
    assert "aaaaaaaa keeps serving" in verdict.cause


def test_without_a_stable_revision_clients_go_nowhere(rollout, seen):
    plan = plan_of(roll_back.decide(rollout, seen("aaaaaaaa", GroupState(None), TO_NOTHING, current=None), NOW))

    assert (type(plan), plan.revision_id) == (Switch, None)


def test_the_record_follows(rollout, seen, stable):
    assert isinstance(plan_of(roll_back.decide(rollout, seen("bbbbbbbb", stable, current=NEW), NOW)), Note)


@pytest.mark.parametrize(
    ("switched_ago", "expected"),
    [
        pytest.param(3, Wait, id="just switched back: open streams end"),
        pytest.param(5, Act, id="drained"),
        pytest.param(3600, Act, id="nobody was ever on the candidate"),
    ],
)
def test_the_candidate_is_drained_before_it_goes(rollout, seen, stable, serving, switched_ago, expected):
    verdict = roll_back.decide(rollout, seen("bbbbbbbb", stable, switched_ago=switched_ago, doomed=(serving(),)), NOW)

    assert isinstance(verdict, expected)
    if expected is Act:
        assert isinstance(verdict.plan, Remove)


def test_it_ends_when_the_candidate_is_gone_and_clients_are_answered(rollout, seen, stable, make_pod, serving):
    going = serving()
    going["metadata"]["deletionTimestamp"] = "2026-11-24T10:00:00Z"

    assert isinstance(roll_back.decide(rollout, seen("bbbbbbbb", stable, doomed=(going,)), NOW), Wait)
    assert isinstance(roll_back.decide(rollout, seen("bbbbbbbb", stable, pods=(make_pod(),)), NOW), Wait)
    assert isinstance(roll_back.decide(rollout, seen("bbbbbbbb", stable, unanswered="no answer"), NOW), Wait)
    assert isinstance(roll_back.decide(rollout, seen("bbbbbbbb", stable, endpoints=()), NOW), Wait)
    assert isinstance(roll_back.decide(rollout, seen("bbbbbbbb", stable), NOW), Done)


def test_an_autoscaler_that_was_moved_comes_back(make_rollout, seen, stable):
    rollout = make_rollout({"autoscaling": {"max_groups": 2}})
    moved = roll_back.recovery.autoscaler(rollout.spec, "chat-aaaaaaaa")

    plan = plan_of(roll_back.decide(rollout, seen("bbbbbbbb", stable, scaler=moved), NOW))

    assert plan.manifests[0]["spec"]["scaleTargetRef"]["name"] == "chat-bbbbbbbb"


def test_a_revision_that_passed_its_bake_stays(rollout, seen, stable):
    done = StepResult(step="watch_live", verdict="done", summary="", started=1.0)
    entry = RolloutResult(run_id="run", revision="v1", started=NOW - 100, plan=rollout.plan, steps=(done,))

    verdict = roll_back.decide(rollout, seen("aaaaaaaa", stable, current=NEW, entry=entry), NOW)

    assert isinstance(verdict, Done)
    assert "only the tidying up failed" in verdict.summary


def test_a_target_that_was_live_before_is_never_deleted(make_rollout, seen, stable):
    rollout = make_rollout(stable_revision_id="aaaaaaaa")

    assert isinstance(roll_back.decide(rollout, seen("aaaaaaaa", stable), NOW), Done)


def test_without_a_plan_there_is_nothing_to_undo(rollout):
    assert isinstance(roll_back.decide(rollout, None, NOW), Done)


def test_what_a_third_party_selected_is_neither_switched_nor_deleted(world, run_of, drive_before):
    rollout = drive_before("switch_service", run_of("v1"))
    found = world.cluster.get(kinds.LEADER_WORKER_SET, "default", rollout.planned.lws)
    third = json.loads(json.dumps(found).replace(rollout.planned.revision_id, "cccccccc"))
    world.cluster.create(
        {**third, "metadata": {key: third["metadata"][key] for key in ("name", "namespace", "labels")}}
    )
    current = world.cluster.get(kinds.SERVICE, "default", "chat-api")
    world.cluster.replace({**current, "spec": service(rollout.spec, "cccccccc")["spec"]})

    verdict = world.drive("roll_back", run_of("v1"))

    assert isinstance(verdict, Done)
    assert [one["metadata"]["name"] for one in world.objects(kinds.LEADER_WORKER_SET)] == ["chat-cccccccc"]


def test_logs_are_kept_before_the_pods_go(world, run_of, drive_before):
    rollout = drive_before("smoke_test", run_of())

    world.drive("roll_back", run_of())

    assert world.evidence.kept[f"chat/run-v1/roll_back/{rollout.planned.lws}-0.log"].startswith("INFO Starting")


def test_evidence_that_cannot_be_stored_does_not_stop_the_roll_back(world, run_of, drive_before, monkeypatch):
    drive_before("smoke_test", run_of())

    def full(_path, _text):
        raise roll_back.recovery.Permanent("no space left")

    monkeypatch.setattr(world.evidence, "put", full)

    assert isinstance(world.drive("roll_back", run_of()), Done)


def test_a_comparison_that_still_runs_is_ended_and_staging_is_not(world, run_of, advance):
    del world.controllers.job_ends["stage_weights"]
    world.controllers.job_ends["evaluate_canary"] = Ending({"event": "report"}, seconds=1e9)
    advance("plan_rollout", run_of())
    advance("stage_weights", run_of())
    for step in ("validate_rdma", "create_group", "await_cold_start", "smoke_test"):
        world.drive(step, run_of())
    advance("evaluate_canary", run_of())

    world.drive("roll_back", run_of())

    left = {job["metadata"]["labels"][names.STEP_LABEL] for job in world.objects(kinds.JOB)}
    assert left == {"stage_weights", "validate_rdma"}


def test_a_return_is_asked_for_by_name(rollout):
    assert Rollout(rollout.spec, "run", "run/1", PREVIOUS).is_return
    assert not rollout.is_return
