import pytest

from llm_rollout import clock, kinds, names, record
from llm_rollout.errors import Conflict
from llm_rollout.manifests.service import service
from llm_rollout.ports import Reply
from llm_rollout.steps import switch_service
from llm_rollout.steps.group_state import GroupState
from llm_rollout.steps.switch_service import Note, Seen
from llm_rollout.steps.traffic import Switch, Traffic
from llm_rollout.verdict import Act, Done, Fail, Wait

NOW = 1_790_000_000.0
LEADER = "chat-aaaaaaaa-0"


@pytest.fixture
def candidate(serving, make_pod):
    workers = [make_pod(f"{LEADER}-{index}", "worker") for index in (1, 2)]
    return GroupState(serving(), (make_pod(), *workers))


def seen(rollout, candidate, selected, endpoints=(), recorded="bbbbbbbb", unanswered=""):
    return Seen(Traffic(service(rollout.spec, selected), endpoints), candidate, recorded, unanswered, {})


@pytest.mark.parametrize(
    ("selected", "endpoints", "recorded", "unanswered", "expected", "words"),
    [
        pytest.param("bbbbbbbb", ("old-0",), "bbbbbbbb", "", Switch, "bbbbbbbb -> aaaaaaaa", id="switch"),
        pytest.param(None, (), None, "", Switch, "None -> aaaaaaaa", id="first switch"),
        pytest.param("aaaaaaaa", (LEADER,), "bbbbbbbb", "", Note, "note", id="killed between switch and record"),
        pytest.param("aaaaaaaa", (LEADER,), "aaaaaaaa", "", Done, LEADER, id="proved"),
        pytest.param("aaaaaaaa", ("old-0",), "aaaaaaaa", "", Wait, "endpoints are old-0", id="endpoints lag"),
        pytest.param("aaaaaaaa", (LEADER,), "aaaaaaaa", "no answer", Wait, "no answer", id="no answer yet"),
        pytest.param("cccccccc", (), "cccccccc", "", Fail, "somebody switched it", id="somebody else switched"),
    ],
)
def test_where_clients_go_decides(rollout, candidate, selected, endpoints, recorded, unanswered, expected, words):
    verdict = switch_service.decide(rollout, seen(rollout, candidate, selected, endpoints, recorded, unanswered), NOW)

    answer = verdict.plan if isinstance(verdict, Act) else verdict
    assert isinstance(answer, expected)
    assert words in str(verdict)


def test_a_candidate_that_went_down_meanwhile_is_not_switched_to(rollout, serving):
    verdict = switch_service.decide(rollout, seen(rollout, GroupState(serving(readyReplicas=0)), "bbbbbbbb"), NOW)

    assert isinstance(verdict, Fail)
    assert "0 of 1 groups ready" in verdict.cause
    assert "nothing was switched" in verdict.cause


def test_a_service_without_our_label_is_not_touched(rollout, candidate):
    found = service(rollout.spec, "bbbbbbbb")
    found["metadata"]["labels"] = {}

    assert isinstance(switch_service.decide(rollout, Seen(Traffic(found), candidate, None, "", None), NOW), Fail)


def test_the_switch_moves_selector_and_stamps_and_nothing_else(world, run_of, drive_before, advance):
    drive_before("switch_service", run_of())
    before = world.cluster.get(kinds.SERVICE, "default", "chat-api")
    advance("switch_service", run_of())
    after = world.cluster.get(kinds.SERVICE, "default", "chat-api")

    annotations = after["metadata"]["annotations"]
    assert clock.seconds(annotations[names.SWITCHED_ANNOTATION]) == world.now()
    assert annotations[names.FENCE_ANNOTATION] == "1"
    assert after["spec"]["ports"] == before["spec"]["ports"]
    assert after["spec"]["selector"] != before["spec"]["selector"]


def test_somebody_who_wrote_first_is_respected(world, run_of, drive_before):
    rollout = drive_before("switch_service", run_of())
    verdict = switch_service.decide(rollout, switch_service.observe(rollout, world.ports), world.now())
    found = world.cluster.get(kinds.SERVICE, "default", "chat-api")
    world.cluster.replace({**found, "spec": {**found["spec"], "selector": {"app": "by-hand"}}})

    with pytest.raises(Conflict):
        switch_service.act(verdict.plan, world.ports)


def test_the_revision_is_recorded_with_all_that_brings_it_back(world, run_of, drive_before):
    rollout = drive_before("switch_service", run_of())
    world.drive("switch_service", run_of())

    current = record.load(world.cluster, "default", "chat").current
    assert (current.revision_id, current.commit) == (rollout.planned.revision_id, "1" * 40)
    assert [manifest["kind"] for manifest in current.manifests] == ["LeaderWorkerSet", "Service"]


def test_a_service_that_answers_for_another_model_is_no_proof(world, run_of, drive_before):
    drive_before("switch_service", run_of())
    world.server.broken["/v1/completions"] = Reply(200, {"model": "other"})

    verdict = world.drive("switch_service", run_of())

    assert isinstance(verdict, Fail)
    assert "answered 200 for model other" in verdict.cause


def test_a_service_that_was_deleted_is_made_again_with_the_new_selector(world, run_of, drive_before):
    rollout = drive_before("switch_service", run_of())
    world.cluster.forget(world.cluster.get(kinds.SERVICE, "default", "chat-api"))

    assert isinstance(world.drive("switch_service", run_of()), Done)
    found = world.cluster.get(kinds.SERVICE, "default", "chat-api")
    assert found["spec"]["selector"][names.REVISION_LABEL] == rollout.planned.revision_id
