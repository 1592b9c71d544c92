import pytest

from llm_rollout import clock
from llm_rollout.steps import await_cold_start
from llm_rollout.steps.group_state import GroupState
from llm_rollout.testing import Start
from llm_rollout.verdict import Done, Fail, Wait

BORN = clock.seconds("2026-11-24T10:00:00Z")
NOW = BORN + 20
WORDS = {"chat-aaaaaaaa-0": "INFO Loading weights took 3 s\ntorch.OutOfMemoryError: CUDA out of memory\n"}


def at(seconds):
    return clock.rfc3339(BORN + seconds)


def recreated(times, seconds=5):
    about = {"kind": "LeaderWorkerSet", "name": "chat-aaaaaaaa", "uid": "uid-lws"}
    message = "Worker pod chat-aaaaaaaa-0-1 failed, deleted leader pod chat-aaaaaaaa-0 to recreate group 0"
    return {
        "reason": "RecreateGroup", "involvedObject": about, "message": message, "metadata": {},
        "series": {"count": times, "lastObservedTime": at(seconds)}, "type": "Normal",
    }  # fmt: skip


def placed(leader_uid):
    about = {"kind": "Pod", "name": "chat-aaaaaaaa-0", "uid": leader_uid}
    return {"reason": "Scheduled", "involvedObject": about, "message": "", "metadata": {}, "lastTimestamp": at(1)}


def container(state=None, last=None, restarts=0):
    status = {"name": "vllm", "restartCount": restarts, "state": state or {"running": {}}}
    return [{**status, "lastState": last}] if last else [status]


def ended(code, seconds):
    return {"terminated": {"exitCode": code, "reason": "Error", "finishedAt": at(seconds)}}


@pytest.fixture
def pods(make_pod):
    def group(*statuses):
        names = ["chat-aaaaaaaa-0", "chat-aaaaaaaa-0-1", "chat-aaaaaaaa-0-2"]
        return tuple(
            make_pod(
                name, "worker" if name.count("-") == 3 else "leader", ready="containerStatuses" not in status, **status
            )
            for name, status in zip(names, [*statuses, {}, {}, {}][:3], strict=True)
        )

    return group


def test_a_group_that_serves_as_one_is_done(rollout, serving, pods):
    verdict = await_cold_start.decide(rollout, GroupState(serving(), pods()), NOW)

    assert isinstance(verdict, Done)
    assert "1 of 1 groups serve (3 pods ready)" in verdict.summary


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ({"observedGeneration": 0}, "observed generation 0 of 1"),
        ({"readyReplicas": 0}, "0 of 1 groups ready"),
        ({"updatedReplicas": 0}, "0 of 1 groups updated"),
        ({"conditions": []}, "Available is not True"),
        ({"conditions": [{"type": "Available", "status": "False"}]}, "Available is not True"),
        (
            {"conditions": [{"type": "Available", "status": "True"}, {"type": "UpdateInProgress", "status": "True"}]},
            "UpdateInProgress is True",
        ),
    ],
)
def test_every_part_of_the_rule_counts(rollout, serving, pods, status, words):
    verdict = await_cold_start.decide(rollout, GroupState(serving(**status), pods()), NOW)

    assert isinstance(verdict, Wait)
    assert words in verdict.reason


def test_available_with_a_missing_pod_is_not_believed(rollout, serving, pods):
    verdict = await_cold_start.decide(rollout, GroupState(serving(), pods()[:2]), NOW)

    assert isinstance(verdict, Wait)
    assert "2 of 3 pods ready" in verdict.reason


def test_waiting_shows_phase_and_last_line_of_each_pod(rollout, serving, pods):
    seen = GroupState(serving(readyReplicas=0), pods({"containerStatuses": container()}), (), WORDS)

    verdict = await_cold_start.decide(rollout, seen, NOW)

    assert verdict.progress["pods"]["chat-aaaaaaaa-0"].startswith("weights: torch.OutOfMemoryError")
    assert verdict.progress["pods"]["chat-aaaaaaaa-0-1"] == "ready"


CRASHED = {"containerStatuses": container(state=ended(1, 15))}
RESTARTED = {"containerStatuses": container(last=ended(1, 15), restarts=1)}
LOOPING = {"containerStatuses": container(last=ended(1, 15), restarts=3)}


@pytest.mark.parametrize(
    ("leader", "events", "expected"),
    [
        pytest.param(CRASHED, [], Wait, id="first crash is forgiven"),
        pytest.param(RESTARTED, [recreated(1)], Wait, id="second crash is forgiven"),
        pytest.param(RESTARTED, [recreated(2)], Fail, id="third crash, its container still there to read"),
        pytest.param(RESTARTED, [recreated(2, 15)], Wait, id="a crash that led to the recreation is not counted twice"),
        pytest.param({}, [recreated(3)], Fail, id="three recreations, nothing left to read"),
        pytest.param(LOOPING, [], Fail, id="restarts in place count without any event"),
        pytest.param(CRASHED, [recreated(1), placed("u1"), placed("u2"), placed("u3")], Fail, id="placements count"),
        pytest.param({}, [placed("u1"), placed("u2")], Wait, id="one recreation seen by placements"),
    ],
)
def test_a_crash_loop_ends_long_before_the_deadline(rollout, serving, pods, leader, events, expected):
    seen = GroupState(serving(readyReplicas=0), pods(leader), tuple(events), WORDS)

    assert isinstance(await_cold_start.decide(rollout, seen, NOW), expected)


def test_the_cause_names_pod_node_exit_code_and_last_words(rollout, serving, pods):
    seen = GroupState(serving(readyReplicas=0), pods(CRASHED), (recreated(2),), WORDS)

    verdict = await_cold_start.decide(rollout, seen, NOW)

    assert "crashed 3 times, timing.max_recreations allows 2" in verdict.cause
    assert "pod chat-aaaaaaaa-0 on node-1, container vllm, exit code 1" in verdict.cause
    assert "CUDA out of memory" in verdict.cause
    assert "gpu_memory_utilization" in verdict.remedy
    assert verdict.evidence["last_lines"][-1].endswith("CUDA out of memory")


def test_without_a_crash_to_read_the_controller_s_words_are_the_cause(rollout, serving, pods):
    seen = GroupState(serving(readyReplicas=0), pods(), (recreated(3),))

    assert "deleted leader pod chat-aaaaaaaa-0" in await_cold_start.decide(rollout, seen, NOW).cause


@pytest.mark.parametrize("allowed", [0, 5])
def test_the_spec_says_how_many_crashes_are_forgiven(make_rollout, serving, pods, allowed):
    rollout = make_rollout({"timing": {"max_recreations": allowed}})
    seen = GroupState(serving(readyReplicas=0), pods(CRASHED), (recreated(2),) if allowed else (), WORDS)

    assert isinstance(await_cold_start.decide(rollout, seen, NOW), Wait if allowed else Fail)


@pytest.mark.parametrize(("age", "expected"), [(30, Wait), (90, Fail)], ids=["a hiccup", "too long"])
@pytest.mark.parametrize("reason", ["ErrImagePull", "ImagePullBackOff", "CreateContainerError"])
def test_a_container_that_cannot_start_is_named(rollout, serving, pods, reason, age, expected):
    waiting = container(state={"waiting": {"reason": reason, "message": "manifest unknown"}})
    seen = GroupState(serving(readyReplicas=0), pods({"phase": "Pending", "containerStatuses": waiting}), (), {})

    verdict = await_cold_start.decide(rollout, seen, BORN + age)

    assert isinstance(verdict, expected)
    assert "manifest unknown" in str(verdict)


def test_a_pod_that_finds_no_place_is_named_with_the_scheduler_s_words(rollout, serving, pods):
    condition = {
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "lastTransitionTime": at(0),
        "message": "0/6 nodes are available: 6 Insufficient nvidia.com/gpu.",
    }  # fmt: skip
    pending = {"phase": "Pending", "conditions": [condition], "containerStatuses": []}
    seen = GroupState(serving(readyReplicas=0), pods(pending), (), {})

    verdict = await_cold_start.decide(rollout, seen, BORN + 90)

    assert isinstance(verdict, Fail)
    assert "6 Insufficient nvidia.com/gpu" in verdict.cause
    assert "clear plan_rollout" in verdict.remedy


def test_a_group_that_somebody_deleted_is_not_waited_for(rollout):
    assert isinstance(await_cold_start.decide(rollout, GroupState(None), NOW), Fail)


def test_a_warning_is_shown_when_no_pod_exists_at_all(rollout, serving):
    about = {"kind": "LeaderWorkerSet", "name": "chat-aaaaaaaa", "uid": "uid-lws"}
    event = {
        "type": "Warning", "reason": "FailedCreate", "message": "exceeded quota", "metadata": {},
        "involvedObject": about,
    }  # fmt: skip

    verdict = await_cold_start.decide(rollout, GroupState(serving(readyReplicas=0), (), (event,), {}), NOW)

    assert "exceeded quota" in verdict.reason


def test_the_crash_s_own_log_is_read(world, run_of, drive_before):
    run = run_of()
    rollout = drive_before("await_cold_start", run)
    world.controllers.starts[rollout.planned.revision_id] = Start(
        crashes=9, exit_code=7, last_words="ValueError: boom\n"
    )

    verdict = world.drive("await_cold_start", run)

    assert isinstance(verdict, Fail)
    assert "exit code 7" in verdict.cause
    assert "ValueError: boom" in verdict.cause
