import pytest

from llm_rollout import clock, kinds, record, runner
from llm_rollout.coldstart.lives import Life
from llm_rollout.coldstart.lives import container as container_of
from llm_rollout.errors import Transient
from llm_rollout.steps import await_cold_start, cold_start_journal
from llm_rollout.steps.group_state import GroupState
from llm_rollout.testing import Start
from llm_rollout.verdict import Act, Done, Fail, Wait

BORN = clock.seconds("2026-11-24T10:00:00Z")
NOW = BORN + 20
LOADING = "INFO 11-24 10:00:05 [gpu_model_runner.py:3551] Starting to load model /models/x...\n"
OUT_OF_MEMORY = LOADING + "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB.\n"
CACHED = "INFO 11-24 10:00:07 [gpu_worker.py:359] Available KV cache memory: 30.00 GiB\n"
LEADER = "chat-aaaaaaaa-0"


def at(seconds):
    return clock.rfc3339(BORN + seconds)


def container(state=None, last=None, restarts=0):
    status = {"name": "vllm", "restartCount": restarts, "state": state or {"running": {"startedAt": at(2)}}}
    return [{**status, "lastState": last}] if last else [status]


def ended(code, seconds):
    return {"terminated": {"exitCode": code, "reason": "Error", "startedAt": at(2), "finishedAt": at(seconds)}}


def cause_of(rollout, seen, now):
    return await_cold_start._diagnosis(rollout, seen, (), now).cause


def event(reason, message, name=LEADER, kind="Pod"):
    return {
        "type": "Warning", "reason": reason, "message": message, "metadata": {}, "firstTimestamp": at(2),
        "lastTimestamp": at(2), "involvedObject": {"kind": kind, "name": name},
    }  # fmt: skip


@pytest.fixture
def pods(make_pod):
    def group(*statuses):
        names = [LEADER, "chat-aaaaaaaa-0-1", "chat-aaaaaaaa-0-2"]
        found = tuple(
            make_pod(
                name, "worker" if name.count("-") == 3 else "leader", ready="containerStatuses" not in status,
                **{"containerStatuses": container(), **status},
            )
            for name, status in zip(names, [*statuses, {}, {}, {}][:3], strict=True)
        )  # fmt: skip
        for pod in found:
            pod["metadata"]["uid"] = f"uid-{pod['metadata']['name']}"
            if not pod["status"]["containerStatuses"]:
                pod["spec"] = {}
        return found

    return group


@pytest.fixture
def serving(serving):
    def stored(**status):
        lws = serving(**status)
        return {**lws, "metadata": {**lws["metadata"], "resourceVersion": "5"}}

    return stored


@pytest.fixture
def starting(serving):
    """A group that does not serve yet, with what its pods printed, by name."""

    def seen(pods, events=(), logs=None, **more):
        logs = logs or {}
        found = tuple(
            Life(pod, container_of(pod).get("restartCount", 0), logs.get(pod["metadata"]["name"], "")) for pod in pods
        )
        return GroupState(serving(readyReplicas=0), tuple(pods), tuple(events), None, found, **more)

    return seen


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


def test_waiting_shows_phase_and_last_line_of_each_pod(rollout, starting, pods):
    workers = dict.fromkeys(("chat-aaaaaaaa-0-1", "chat-aaaaaaaa-0-2"), LOADING + CACHED)
    seen = starting(pods({"containerStatuses": container()}), logs={LEADER: LOADING, **workers})

    verdict = await_cold_start.decide(rollout, seen, NOW)

    assert isinstance(verdict, Wait)
    assert verdict.reason.endswith("0 of 1 groups ready, 2 of 3 pods ready; chat-aaaaaaaa-0: weights")
    assert verdict.progress["pods"][LEADER].startswith("weights: ")
    assert "Starting to load model" in verdict.progress["pods"][LEADER]


CRASHED = {"containerStatuses": container(state=ended(1, 15))}
RESTARTED = {"containerStatuses": container(last=ended(1, 15), restarts=1)}
PENDING = {
    "phase": "Pending", "containerStatuses": [],
    "conditions": [
        {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "lastTransitionTime": at(0),
         "message": "0/6 nodes are available: 6 Insufficient nvidia.com/gpu."},
    ],
}  # fmt: skip
UNBOUND = {**PENDING, "conditions": [{**PENDING["conditions"][0], "message": 'persistentvolumeclaim "x" not found'}]}
PLACED = {"type": "PodScheduled", "status": "True", "lastTransitionTime": at(1)}


def blocked(reason, message=""):
    status = container(state={"waiting": {"reason": reason, "message": message}})
    return {"phase": "Pending", "containerStatuses": status, "conditions": [PLACED], "startTime": at(1)}


TAKEN = {"type": "DisruptionTarget", "status": "True", "lastTransitionTime": at(5)}
NOT_FOUND = event("Failed", 'Failed to pull image "x:1": manifest unknown')
NO_NETWORK = event("Failed", 'Failed to pull image "x:1": dial tcp: i/o timeout')
QUOTA = event("FailedCreate", "pods is forbidden: exceeded quota: gpus", "chat-aaaaaaaa", "StatefulSet")


@pytest.mark.parametrize(
    ("leader", "events", "log", "patience", "class_name"),
    [
        pytest.param(CRASHED, [], OUT_OF_MEMORY, 0, "GPU_OOM", id="an engine's own words"),
        pytest.param({"containerStatuses": container(state=ended(2, 15))}, [],
                     "vllm: error: unrecognized arguments: --foo\n", 0, "BAD_FLAG", id="a flag that does not exist"),
        pytest.param(blocked("ImagePullBackOff", "Back-off"), [NOT_FOUND], "", 5, "IMAGE", id="no such image"),
        pytest.param(blocked("ImagePullBackOff", "Back-off"), [NO_NETWORK], "", 60, "IMAGE", id="no registry"),
        pytest.param(blocked("InvalidImageName", "x"), [], "", 5, "IMAGE", id="an image's name that is none"),
        pytest.param(blocked("CreateContainerConfigError", 'secret "hf" not found'), [], "", 5, "SECRET",
                     id="a secret"),
        pytest.param(blocked("ContainerCreating"), [event("FailedMount", 'secret "hf" not found')], "", 5, "SECRET",
                     id="a secret that is mounted"),
        pytest.param(blocked("ContainerCreating"), [event("FailedMount", 'claim "x" not found')], "", 5, "VOLUME",
                     id="no such claim"),
        pytest.param(blocked("ContainerCreating"), [event("FailedAttachVolume", "timed out")], "", 420, "VOLUME",
                     id="a mount that takes long"),
        pytest.param(PENDING, [], "", 10, "SCHEDULING", id="no room"),
        pytest.param(UNBOUND, [], "", 5, "VOLUME", id="no claim to bind"),
        pytest.param({}, [QUOTA], "", 10, "QUOTA", id="over the quota"),
    ],
)  # fmt: skip
def test_what_never_heals_ends_the_start_when_it_is_sure(
    rollout, starting, pods, leader, events, log, patience, class_name
):
    seen = starting(pods(leader), events, {LEADER: log})
    since = 2 if events else 1 if leader.get("startTime") else 0

    early = await_cold_start.decide(rollout, seen, BORN + since + patience - 1) if patience else None
    verdict = await_cold_start.decide(rollout, seen, BORN + max(20 if log else 0, since + patience + 1))

    assert early is None or isinstance(early, Wait)
    assert isinstance(verdict, Act)
    assert verdict.summary.startswith(f"scale chat-aaaaaaaa to zero: {class_name} on pod ")


@pytest.mark.parametrize(
    ("leader", "events", "class_name"),
    [
        pytest.param({"containerStatuses": container(state={"terminated": {
            "exitCode": 137, "reason": "OOMKilled", "startedAt": at(2), "finishedAt": at(15)}})}, [], "HOST_MEMORY",
            id="killed for its memory"),
        pytest.param(RESTARTED, [event("Killing", "Container vllm failed startup probe, will be restarted")],
                     "PROBE_KILLED", id="killed by its probe"),
        pytest.param({"phase": "Failed", "reason": "Evicted", "message": "node was low on memory",
                      "containerStatuses": container()}, [], "EVICTED", id="evicted"),
        pytest.param({"containerStatuses": container(), "conditions": [{**TAKEN, "reason": "DeletionByTaintManager"}]},
                     [], "NODE_LOST", id="taken from a lost node"),
        pytest.param({"containerStatuses": container(), "conditions": [{**TAKEN, "reason": "PreemptionByScheduler"}]},
                     [], "EVICTED", id="preempted"),
    ],
)  # fmt: skip
def test_what_the_cluster_did_to_a_pod_is_its_cause(rollout, starting, pods, leader, events, class_name):
    seen = starting(pods(leader), events, {LEADER: LOADING})
    if leader is RESTARTED:  # The life that was ended is the one before.
        seen = GroupState(seen.lws, seen.pods, seen.events, None, (Life(seen.pods[0], 0, LOADING), *seen.lives[1:]))

    assert cause_of(rollout, seen, NOW + 20).class_name == class_name


def test_a_node_that_is_not_ready_is_lost_after_a_moment(rollout, starting, pods):
    silent = {"type": "Ready", "status": "Unknown", "lastTransitionTime": at(10), "reason": "NodeStatusUnknown"}
    seen = starting(pods({"containerStatuses": container()}), nodes={"node-1": {"status": {"conditions": [silent]}}})

    assert cause_of(rollout, seen, BORN + 15) is None
    assert cause_of(rollout, seen, BORN + 21).class_name == "NODE_LOST"


def test_a_group_that_still_goes_gives_the_scheduler_a_minute(rollout, starting, pods):
    seen = starting(pods(PENDING), makes_room=True)

    assert isinstance(await_cold_start.decide(rollout, seen, BORN + 59), Wait)
    assert isinstance(await_cold_start.decide(rollout, seen, BORN + 61), Act)


def test_the_spec_may_give_the_scheduler_longer(make_rollout, starting, pods):
    patient = make_rollout({"timing": {"patience": {"scheduling": 40}}})

    assert isinstance(await_cold_start.decide(patient, starting(pods(PENDING)), BORN + 39), Wait)
    assert isinstance(await_cold_start.decide(patient, starting(pods(PENDING)), BORN + 41), Act)


def test_the_first_cause_over_all_ranks_wins_and_not_the_last_error(rollout, starting, pods):
    broken = LOADING + "RuntimeError: [..] Connection closed by peer [10.64.0.3]:29501\n"
    worker = {"containerStatuses": container(state=ended(1, 15))}
    seen = starting(
        pods({"containerStatuses": container(state=ended(1, 18))}, worker),
        logs={LEADER: broken, "chat-aaaaaaaa-0-1": OUT_OF_MEMORY},
    )

    verdict = await_cold_start.decide(rollout, seen, NOW)

    assert "GPU_OOM on pod chat-aaaaaaaa-0-1" in verdict.summary


def test_a_consequence_alone_is_not_believed_before_the_others_have_spoken(rollout, starting, pods):
    broken = LOADING + "RuntimeError: [..] Connection closed by peer [10.64.0.3]:29501\n"
    seen = starting(pods(CRASHED), logs={LEADER: broken})

    assert isinstance(await_cold_start.decide(rollout, seen, BORN + 16), Wait)
    assert cause_of(rollout, seen, BORN + 16) is None
    assert cause_of(rollout, seen, BORN + 24).class_name == "PEER_LOST"


def test_a_process_that_has_said_why_it_fails_and_hangs_has_failed(rollout, starting, pods):
    text = "".join(f"{at(15)} {line}\n" for line in OUT_OF_MEMORY.splitlines())
    seen = starting(pods({"containerStatuses": container()}), logs={LEADER: text})

    assert cause_of(rollout, seen, BORN + 20) is None
    assert cause_of(rollout, seen, BORN + 26).class_name == "GPU_OOM"


def test_ranks_that_are_asked_to_end_are_no_cause(rollout, starting, pods):
    asked = {"deletionTimestamp": at(40), "deletionGracePeriodSeconds": 30}
    found = [{**pod, "metadata": {**pod["metadata"], **asked}} for pod in pods(CRASHED)]
    seen = starting(found, logs={LEADER: LOADING})

    assert cause_of(rollout, seen, NOW) is None


def test_a_stall_ends_the_start_with_what_was_seen_last(rollout, starting, pods):
    text = "".join(f"{at(15)} {line}\n" for line in LOADING.splitlines())
    seen = starting(pods(*[{"containerStatuses": container()}] * 3), logs=dict.fromkeys((LEADER,), text))

    verdict = await_cold_start.decide(rollout, seen, BORN + 2000)

    assert isinstance(verdict, Act)
    assert "STALLED on pod chat-aaaaaaaa-0" in verdict.summary
    assert "without a sign of progress" in verdict.summary


def test_pods_that_nobody_makes_are_a_stall_too(rollout, serving):
    seen = GroupState(serving(readyReplicas=0), ())

    assert isinstance(await_cold_start.decide(rollout, seen, BORN + 170), Wait)
    assert "scheduling" in await_cold_start.decide(rollout, seen, BORN + 190).summary


def test_a_group_that_somebody_deleted_is_not_waited_for(rollout):
    assert isinstance(await_cold_start.decide(rollout, GroupState(None), NOW), Fail)


def test_a_warning_is_shown_when_no_pod_exists_at_all(rollout, serving):
    failed = event("FailedCreate", "no kubelet answers", "chat-aaaaaaaa", "LeaderWorkerSet")

    verdict = await_cold_start.decide(rollout, GroupState(serving(readyReplicas=0), (), (failed,)), BORN + 3)

    assert "no kubelet answers" in verdict.reason


def test_the_crash_s_own_log_is_read(world, run_of, drive_before):
    run = run_of()
    rollout = drive_before("await_cold_start", run)
    world.controllers.starts[rollout.planned.revision_id] = Start(
        crashes=9, exit_code=2, last_words="vllm: error: unrecognized arguments: --boom\n"
    )

    verdict = world.drive("await_cold_start", run)

    assert isinstance(verdict, Fail)
    assert "BAD_FLAG" in verdict.cause
    assert "--boom" in verdict.cause
    [kept] = [text for path, text in world.evidence.kept.items() if path.endswith(".log") and "--boom" in text][:1]
    assert "unrecognized arguments" in kept
    assert verdict.evidence["kept_at"] == "memory:chat/run-v1/await_cold_start"


def test_the_task_knows_what_only_the_trigger_saw(world, run_of, drive_before):
    run = run_of()
    rollout = drive_before("await_cold_start", run)
    world.controllers.starts[rollout.planned.revision_id] = Start(crashes=9, last_words=OUT_OF_MEMORY)
    runner.advance("await_cold_start", run, world.ports, world.now)
    while isinstance(runner.look("await_cold_start", run, world.ports, world.now), Wait):
        world.tick()
    for pod in world.objects(kinds.POD):
        if pod["metadata"]["name"].startswith(rollout.planned.lws):
            world.cluster.forget(pod)
    world.controllers.logs.clear()
    task = type(world.ports)(**{**vars(world.ports), "logs": type(world.ports.logs)(world.controllers)})

    verdict = runner.advance("await_cold_start", run, task, world.now)

    assert isinstance(verdict, Fail)
    assert "GPU_OOM" in verdict.cause
    assert cold_start_journal.load(world.cluster, "default", "chat", "run-v1/1")[0].class_name == "GPU_OOM"
    assert cold_start_journal.load(world.cluster, "default", "chat", "run-v1/2") == ()


def test_evidence_that_cannot_be_kept_breaks_no_verdict(world, run_of, drive_before, monkeypatch):
    run = run_of()
    rollout = drive_before("await_cold_start", run)
    world.controllers.starts[rollout.planned.revision_id] = Start(crashes=9, last_words=OUT_OF_MEMORY)

    def refuse(*_):
        raise Transient("no room")

    monkeypatch.setattr(world.evidence, "put", refuse)

    assert "GPU_OOM" in world.drive("await_cold_start", run).cause


def test_secrets_reach_no_evidence(world, run_of, drive_before):
    run = run_of()
    rollout = drive_before("await_cold_start", run)
    world.controllers.starts[rollout.planned.revision_id] = Start(
        crashes=9, last_words="HF_TOKEN=hf_abcdefghijklmnop\nAuthorization: Bearer abcdefghijklmnop\nValueError: boom\n"
    )

    world.drive("await_cold_start", run)

    assert any("ValueError: boom" in text for text in world.evidence.kept.values())
    assert not any("abcdefghijklmnop" in text for text in world.evidence.kept.values())


def test_a_look_that_sees_nothing_new_writes_nothing(world, run_of, drive_before):
    run = run_of()
    drive_before("await_cold_start", run)
    runner.advance("await_cold_start", run, world.ports, world.now)
    written = []
    world.evidence.put = lambda path, _text: written.append(path) or f"memory:{path}"

    runner.look("await_cold_start", run, world.ports, world.now)
    runner.look("await_cold_start", run, world.ports, world.now)

    assert len(written) == len(set(written))


def test_how_long_the_phases_took_stands_in_the_record_and_is_expected_again(world, run_of, drive_before):
    run = run_of()
    drive_before("await_cold_start", run)
    world.drive("await_cold_start", run)
    entry = record.load(world.cluster, "default", "chat").run("run-v1")

    evidence = entry.step("await_cold_start").evidence

    assert evidence["phases"]
    assert await_cold_start._before(run, world.ports)[0] == evidence["phases"]
