import itertools
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest

from llm_rollout import clock, kinds, names, record, runner
from llm_rollout.coldstart.deaths import Death
from llm_rollout.coldstart.words import Cause
from llm_rollout.errors import Conflict
from llm_rollout.steps import (
    PIPELINE,
    create_group,
    group_restarts,
    group_state,
    pod_state,
    replanning,
    restart_ledger,
)
from llm_rollout.steps.group_state import GroupState
from llm_rollout.steps.restart_ledger import Ended, Ledger, Spent
from llm_rollout.testing import Ending, Start
from llm_rollout.verdict import Act, Done, Fail, Wait

LEADER, WORKER = "chat-aaaaaaaa-0", "chat-aaaaaaaa-0-1"
BORN = clock.seconds("2026-11-24T10:00:00Z")
NOW = BORN + 100
OOM = Cause("HOST_MEMORY", "killed for its memory", "raise server.resources.memory", at=BORN + 50, source=WORKER)


def crashed(uid="u1", restarts=0, seconds=50, **metadata):
    ended = {"terminated": {"exitCode": 137, "reason": "OOMKilled", "finishedAt": clock.rfc3339(BORN + seconds)}}
    states = {"state": {"running": {}}, "lastState": ended} if restarts else {"state": ended}
    return {"uid": uid, "containerStatuses": [{"name": "vllm", "restartCount": restarts, **states}], **metadata}


def scheduled(uid, pod=LEADER):
    about = {"kind": "Pod", "name": pod, "uid": uid}
    return {"reason": "Scheduled", "involvedObject": about, "message": "", "metadata": {}}


@pytest.fixture
def candidate(serving, make_pod):
    """A candidate of which nothing serves, with this leader, this worker and this ledger."""

    def make(leader=None, worker=None, ledger=None, events=(), replicas=1, **status):
        lws = serving(readyReplicas=0, **status)
        annotations = {**lws["metadata"]["annotations"], names.RESTARTS_ANNOTATION: (ledger or Ledger()).text()}
        lws["metadata"] |= {"annotations": annotations, "resourceVersion": "5"}
        lws["spec"]["replicas"] = replicas
        pods = []
        for name, role, node, wanted in (
            (LEADER, "leader", "node-1", leader),
            (WORKER, "worker", "node-2", worker),
        ):
            if wanted is not None:
                changes = dict(wanted)
                uid = changes.pop("uid", "u1")
                times = {key: changes.pop(key) for key in ("creationTimestamp", "deletionTimestamp") if key in changes}
                place = changes.pop("nodeName", node)
                pod = make_pod(name, role, ready=False, **changes)
                pod["metadata"] |= {"uid": uid, **times}
                pod["spec"] = {"nodeName": place}
                pods.append(pod)
        return GroupState(lws, tuple(pods), tuple(events))

    return make


def written(verdict):
    manifest = verdict.plan.manifest
    return manifest["spec"]["replicas"], restart_ledger.read(manifest)


ALIVE = {"uid": "u1"}
ONCE = Ledger(failures=1, ended=(Ended(uid="u0", group="0", node="node-2", class_name="HOST_MEMORY"),))
TWICE = Ledger(failures=2, ended=(*ONCE.ended, Ended(uid="u00", group="0")))
THRICE = Ledger(failures=3, ended=(*TWICE.ended, Ended(uid="u000", group="0")))


@pytest.mark.parametrize(
    ("ledger", "worker", "events", "replicas", "failures", "pause", "spent"),
    [
        pytest.param(Ledger(), crashed(), [], 0, 1, 0, False, id="before the first recreation there is no pause"),
        pytest.param(Ledger(), crashed(restarts=2), [], 0, 1, 0, False, id="a start in place is no recreation"),
        pytest.param(Ledger(), ALIVE, ["u0", "u1"], 0, 1, 0, False, id="a life that nobody saw end"),
        pytest.param(ONCE, crashed(), [], 0, 2, 10, False, id="before the second it pauses"),
        pytest.param(Ledger(), crashed(restarts=1), ["u0"], 0, 2, 10, False, id="two at once"),
        pytest.param(TWICE, crashed(), [], 0, 3, 30, False, id="the pause grows"),
        pytest.param(THRICE, crashed(), [], 0, 4, None, True, id="more than three are not made"),
        pytest.param(Ledger(), ALIVE, ["a", "b", "c", "d"], 0, 4, None, True, id="found over the budget"),
    ],
)
def test_what_a_failed_start_leads_to(rollout, candidate, ledger, worker, events, replicas, failures, pause, spent):
    rollout = with_budget(rollout, 3)
    seen = candidate(ALIVE, worker, ledger, [scheduled(uid) for uid in events])

    verdict = group_restarts.decide(rollout, seen, OOM if "containerStatuses" in worker else None, NOW)

    assert isinstance(verdict, Act)
    count, after = written(verdict)
    assert count == replicas
    assert after.failures == failures
    assert after.resume_at == (None if pause is None else NOW + pause)
    assert (after.spent is not None) is spent


def with_budget(rollout, allowed):
    timing = rollout.spec.timing.model_copy(update={"max_recreations": allowed})
    spec = rollout.spec.model_copy(update={"timing": timing})
    return rollout.under(rollout.planned.model_copy(update={"spec": spec}))


@pytest.mark.parametrize(
    ("ledger", "leader", "worker", "events"),
    [
        pytest.param(Ledger(), ALIVE, {}, [], id="nothing has failed"),
        pytest.param(Ledger(), ALIVE, {}, ["u1", "u1"], id="one life, told twice"),
        pytest.param(
            Ledger(failures=1, ended=(Ended(uid="u1", group="0", node="node-2", class_name="NCCL"),)),
            ALIVE, crashed(), [], id="noted, and still there",
        ),
        pytest.param(ONCE, {"uid": "u1"}, {}, ["u0", "u1"], id="recreated, and starting"),
        pytest.param(Ledger(), None, None, [], id="no pod yet"),
        pytest.param(
            ONCE, {"uid": "u9", "deletionTimestamp": clock.rfc3339(NOW), "nodeName": ""}, None, [],
            id="taken back before it had a place",
        ),
    ],
)  # fmt: skip
def test_what_was_dealt_with_is_not_charged_again(rollout, candidate, ledger, leader, worker, events):
    seen = candidate(leader, worker, ledger, [scheduled(uid) for uid in events])

    assert group_restarts.decide(with_budget(rollout, 3), seen, None, NOW) is None


@pytest.mark.parametrize("class_name", ["BAD_FLAG", "WEIGHTS_CORRUPT", "SCHEDULING", "STALLED"])
@pytest.mark.parametrize("ledger", [Ledger(), ONCE, ONCE.model_copy(update={"resume_at": NOW + 5})])
def test_a_cause_that_cannot_pass_gets_no_recreation(rollout, candidate, class_name, ledger):
    cause = replace(OOM, class_name=class_name)

    verdict = group_restarts.decide(rollout, candidate(ALIVE, crashed(), ledger), cause, NOW)

    count, after = written(verdict)
    assert count == 0
    assert after.spent.cause.startswith(f"{class_name} on pod {WORKER} on node-2, exit code 137 (OOMKilled): killed")
    assert "another start would end the same" in after.spent.cause
    assert after.spent.remedy.startswith("raise server.resources.memory; ")
    assert after.spent.remedy.endswith("clear create_group and what follows it")


def test_a_lost_node_ends_a_start_without_a_crash(rollout, candidate):
    lost = replace(OOM, class_name="NODE_LOST", message="node-2 does not answer")

    verdict = group_restarts.decide(rollout, candidate(ALIVE, {}), lost, NOW)

    count, after = written(verdict)
    assert (count, after.failures, after.resume_at) == (0, 1, NOW)
    assert (after.ended[0].node, after.ended[0].class_name) == ("node-2", "NODE_LOST")


def test_a_cause_of_a_pod_that_had_the_name_before_blames_nobody_now(rollout, candidate):
    old = replace(OOM, class_name="NODE_LOST", at=BORN - 30)

    assert group_restarts.decide(rollout, candidate(ALIVE, {}), old, NOW) is None


def test_healthy_groups_that_a_pause_ends_are_no_failures_of_their_own(make_rollout, candidate):
    rollout = with_budget(make_rollout({"groups": 2}), 3)
    ended = (Ended(uid="a", group="0", class_name="NCCL", node="node-1"), Ended(uid="b", group="1"))
    seen = candidate(ALIVE, {}, Ledger(failures=1, ended=ended), replicas=2)

    assert group_restarts.decide(rollout, seen, None, NOW) is None


def test_recreations_of_several_groups_at_once_are_counted_by_group(make_rollout, candidate):
    rollout = with_budget(make_rollout({"groups": 3}), 3)
    events = [scheduled(f"{group}{life}", f"chat-aaaaaaaa-{group}") for group in range(3) for life in "ab"]
    seen = candidate(None, None, Ledger(), events)

    _, after = written(group_restarts.decide(rollout, seen, None, NOW))

    assert after.failures == 2
    assert len(after.ended) == 6


@pytest.mark.parametrize("condition", ["True", "False"])
def test_what_leader_worker_set_gave_up_is_over_budget(rollout, candidate, condition):
    degraded = {"type": "Degraded", "status": condition, "reason": "ReplicaRestartBudgetExceeded"}
    seen = candidate(ALIVE, {}, conditions=[degraded])

    verdict = group_restarts.decide(rollout, seen, None, NOW)

    assert (verdict is not None) == (condition == "True")
    if verdict:
        assert written(verdict)[0] == 0
        assert written(verdict)[1].spent is not None


PAUSED = TWICE.model_copy(update={"resume_at": NOW + 10})


@pytest.mark.parametrize(
    ("later", "leader", "expected", "words"),
    [
        (4, None, Wait, "recreation 2 of at most 3 begins in 6 s: HOST_MEMORY on node-2"),
        (11, ALIVE, Wait, f"begins when {LEADER} have ended"),
        (11, None, Act, "recreation 2 of at most 3: start chat-aaaaaaaa again"),
        (11, {"uid": "u1", "deletionTimestamp": clock.rfc3339(NOW - 20)}, Wait, "begins when"),
        (11, {"uid": "u1", "deletionTimestamp": clock.rfc3339(NOW - 80)}, Fail, f"{LEADER} on node-1"),
    ],
    ids=["too early", "pods are left", "over", "a pod ends slowly", "a pod hangs"],
)
def test_a_pause_ends_in_a_clean_start(rollout, candidate, later, leader, expected, words):
    ledger = PAUSED if leader is None else PAUSED.model_copy(update={"ended": ONCE.ended})
    seen = candidate(leader, None, ledger, replicas=0)

    verdict = group_restarts.decide(with_budget(rollout, 3), seen, None, NOW + later)

    assert isinstance(verdict, expected)
    told = {Wait: "reason", Act: "summary", Fail: "cause"}[expected]
    assert words in getattr(verdict, told)
    if expected is Act:
        assert written(verdict) == (1, TWICE)


def test_a_recreation_that_the_controller_squeezed_in_before_the_pause_is_charged(rollout, candidate):
    paused = THRICE.model_copy(update={"resume_at": NOW})
    seen = candidate(None, None, paused, [scheduled("squeezed-in")], replicas=0)

    count, after = written(group_restarts.decide(with_budget(rollout, 3), seen, None, NOW + 1))

    assert (count, after.failures) == (0, 4)
    assert after.spent is not None


NEXT = {"uid": "next", "creationTimestamp": clock.rfc3339(BORN + 60), "nodeName": ""}


@pytest.mark.parametrize("leader", [None, NEXT], ids=["gone", "new"])
def test_a_worker_that_goes_after_its_leader_is_no_failure_of_the_next_life(rollout, candidate, leader):
    paused = THRICE.model_copy(update={"resume_at": NOW + 30})
    left = crashed(deletionTimestamp=clock.rfc3339(NOW))

    verdict = group_restarts.decide(with_budget(rollout, 3), candidate(leader, left, paused, replicas=0), None, NOW)

    assert isinstance(verdict, Wait)
    assert verdict.progress["failed_starts"] == 3


@pytest.mark.parametrize(
    ("cause", "seconds", "expected"),
    [(None, 2, ""), (OOM, 2, "HOST_MEMORY on pod"), (None, 6, "HOST_MEMORY on node-2: nobody saw")],
    ids=["still read", "named", "never named"],
)
def test_what_is_not_named_yet_when_it_is_given_up_is_named_while_the_pods_end(
    rollout, candidate, cause, seconds, expected
):
    spent = ONCE.model_copy(update={"spent": Spent(since=NOW)})

    verdict = group_restarts.decide(rollout, candidate(None, None, spent, replicas=0), cause, NOW + seconds)

    assert isinstance(verdict, Act if expected else Wait)
    if expected:
        assert written(verdict)[1].spent.cause.startswith(expected)


def test_the_first_cause_takes_the_place_of_what_showed_first(rollout, candidate):
    death = Death(
        pod=WORKER, uid="w", restart=0, group="0", role="worker", node="node-7", born=BORN, ended=BORN + 50,
        exit_code=1, class_name="NCCL", message="unhandled cuda error", at=BORN + 50,
    )  # fmt: skip
    paused = ONCE.model_copy(update={"resume_at": NOW + 10})
    seen = replace(candidate(None, None, paused, replicas=0), deaths=(death,))

    count, after = written(group_restarts.decide(rollout, seen, death.cause, NOW))

    assert (count, after.ended[0].node, after.ended[0].class_name) == (0, "node-7", "NCCL")
    lws = {**seen.lws, "metadata": {**seen.lws["metadata"]}}
    lws["metadata"]["annotations"] = {names.RESTARTS_ANNOTATION: after.text()}
    assert isinstance(group_restarts.decide(rollout, replace(seen, lws=lws), death.cause, NOW), Wait)


def test_given_up_is_said_as_long_as_it_stands(rollout, candidate):
    spent = TWICE.model_copy(update={"spent": Spent(since=NOW, cause="why", remedy="what")})

    verdict = group_restarts.decide(rollout, candidate(None, None, spent, replicas=0), None, NOW)

    assert isinstance(verdict, Fail)
    assert (verdict.cause, verdict.remedy) == ("why; LeaderWorkerSet chat-aaaaaaaa is scaled to zero", "what")
    assert verdict.evidence["starts"][0]["node"] == "node-2"
    again = group_restarts.decide(rollout, candidate(None, None, spent, replicas=1), None, NOW)
    assert written(again)[0] == 0


def test_a_secret_in_the_engine_s_words_reaches_no_annotation(rollout, candidate):
    cause = replace(OOM, class_name="PERMISSION", message="401 for hf_abcdefghijklmnop")

    verdict = group_restarts.decide(rollout, candidate(ALIVE, crashed()), cause, NOW)

    assert "hf_abc" not in str(verdict)


@pytest.mark.parametrize("text", ["", "[]", "{broken", '{"failures": "many"}'])
def test_an_annotation_that_somebody_spoilt_counts_as_none(candidate, text):
    lws = candidate().lws
    lws["metadata"]["annotations"][names.RESTARTS_ANNOTATION] = text

    assert restart_ledger.read(lws) == Ledger()


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (("node-2", "HOST_MEMORY"), ("node-2", "UNKNOWN"), "node-2"),
        (("node-2", "HOST_MEMORY"), ("node-1", "HOST_MEMORY"), None),
        (("node-2", "PEER_LOST"), ("node-2", "PEER_LOST"), None),
        (("", "UNKNOWN"), ("", "UNKNOWN"), None),
    ],
    ids=["twice", "on two nodes", "not of a node", "nobody knows where"],
)
def test_a_node_that_ended_two_generations_is_to_blame(first, second, expected):
    ended = [
        Ended(uid=str(index), group="0", node=node, class_name=kind)
        for index, (node, kind) in enumerate([first, second])
    ]

    assert Ledger(ended=tuple(ended)).bad_node == expected


@pytest.fixture
def bad_flag(world, rollout, candidate):
    """What is decided of a bad flag, and the LeaderWorkerSet in the cluster that it was decided of."""
    live = world.cluster.show({**candidate().lws, "status": {}})
    seen = replace(candidate(ALIVE, crashed()), lws=live)
    return group_restarts.decide(rollout, seen, replace(OOM, class_name="BAD_FLAG"), NOW), live


def test_a_controller_that_writes_status_all_the_time_does_not_keep_it_from_scaling_to_zero(world, bad_flag):
    """Each write of the status is a new version of the object."""
    verdict, _ = bad_flag
    left = iter(range(3))

    def churn(_what):
        count = next(left, None)
        if count is not None:
            live = world.cluster.get(kinds.LEADER_WORKER_SET, "default", "chat-aaaaaaaa")
            world.cluster.show({**live, "status": {"replicas": count}})
            raise Conflict("the object has been modified")

    world.cluster.before_write = churn
    group_restarts.act(verdict.plan, world.ports)

    (lws,) = world.objects(kinds.LEADER_WORKER_SET)
    assert lws["spec"]["replicas"] == 0
    assert restart_ledger.read(lws).spent is not None


@pytest.mark.parametrize("change", ["replicas", "annotation", "gone"])
def test_what_somebody_else_changed_meanwhile_is_looked_at_again(world, bad_flag, change):
    verdict, live = bad_flag
    if change == "replicas":
        world.cluster.show({**live, "spec": {**live["spec"], "replicas": 2}})
    elif change == "annotation":
        annotations = {**live["metadata"]["annotations"], names.RESTARTS_ANNOTATION: ONCE.text()}
        world.cluster.show({**live, "metadata": {**live["metadata"], "annotations": annotations}})
    else:
        world.cluster.forget(live)

    with pytest.raises(Conflict):
        group_restarts.act(verdict.plan, world.ports)

    assert world.cluster.writes == []


# Whole rollouts, with a step that asks as await_cold_start does.


@pytest.fixture
def asked(monkeypatch):
    """``await_cold_start`` reduced to what concerns recreations; ``class_name`` is that of every crash."""
    script = SimpleNamespace(class_name="HOST_MEMORY")

    def observe(rollout, ports):
        spec, plan = rollout.spec, rollout.planned
        state = group_state.observe(ports, spec.namespace, spec.name, plan.revision_id, plan.lws)
        state = group_state.with_words(state, ports, spec.namespace)
        return state, replanning.observe(rollout, ports, state)

    def decide(rollout, seen, now):
        state, elsewhere = seen
        crash = next((crash for pod in state.pods if (crash := pod_state.crash(pod))), None)
        cause = crash and Cause(script.class_name, "as simulated", "see to it", at=crash.ended, source=crash.pod)
        dealt = group_restarts.decide(rollout, state, cause, now, elsewhere)
        missing = group_state.not_serving(state)
        serves = group_restarts.arm(rollout, state) or Done("serves")
        return dealt or (Wait(missing) if missing else serves)

    step = SimpleNamespace(observe=observe, decide=decide, act=group_restarts.act)
    monkeypatch.setitem(sys.modules, "llm_rollout.steps.await_cold_start", step)
    return script


ROOMY = {"timing": {"cold_start_seconds": 600, "max_recreations": 3}}


@pytest.fixture
def start(world, asked, run_of):  # noqa: ARG001 (the step that is driven)
    """Drive a run up to its cold start and through it; the verdict, and each change of the number of groups in time."""

    def drive(crashes, run=None, changes=None):
        rollout = run or run_of(changes={**ROOMY, **(changes or {})})
        for step in PIPELINE[:4]:
            verdict = world.drive(step, rollout)
            assert isinstance(verdict, Done), verdict
        lws = record.load(world.cluster, "default", "chat").run(rollout.run_id).plan.lws
        world.controllers.starts[lws.removeprefix("chat-")] = Start(crashes=crashes)
        sizes, began = [], world.now()

        def note(_what):
            found = world.cluster.get(kinds.LEADER_WORKER_SET, "default", lws)
            size = found["spec"]["replicas"]
            if not sizes or sizes[-1][1] != size:
                sizes.append((round(world.now() - began), size))

        tick = world.controllers.tick
        world.controllers.tick = lambda: (tick(), note(""))[0]
        verdict = world.drive("await_cold_start", rollout)
        note("")
        world.controllers.tick = tick
        return verdict, sizes

    return drive


def leaders_ever(world):
    told = [event["involvedObject"] for event in world.objects(kinds.EVENT) if event["reason"] == "Scheduled"]
    return len({about["uid"] for about in told if about["name"].count("-") == 2})


def ledger_of(world):
    (lws,) = world.objects(kinds.LEADER_WORKER_SET)
    return restart_ledger.read(lws)


def gaps(sizes):
    """How long each pause lasted."""
    return [until - since for (since, size), (until, _) in itertools.pairwise(sizes) if size == 0]


def test_what_heals_at_the_second_start_does_not_pause(world, start):
    verdict, sizes = start(crashes=1)

    assert isinstance(verdict, Done)
    assert [size for _, size in sizes] == [1, 0, 1]
    assert gaps(sizes)[0] <= 2
    assert leaders_ever(world) == 2


def test_what_heals_at_the_fourth_start_has_paused_twice(world, asked, start):
    asked.class_name = "TIMEOUT"

    verdict, sizes = start(crashes=3)

    assert isinstance(verdict, Done)
    assert [size for _, size in sizes] == [1, 0, 1, 0, 1, 0, 1]
    none, first, second = gaps(sizes)
    assert none <= 2
    assert 10 <= first <= 13
    assert 30 <= second <= 33
    assert leaders_ever(world) == 4


def test_what_never_heals_is_recreated_as_often_as_its_budget_and_holds_no_gpus_then(world, asked, start):
    asked.class_name = "TIMEOUT"

    verdict, sizes = start(crashes=99)

    assert isinstance(verdict, Fail)
    assert leaders_ever(world) == 1 + 3
    assert [size for _, size in sizes] == [1, 0, 1, 0, 1, 0, 1, 0]
    assert "recreated 3 times, timing.max_recreations allows 3" in verdict.cause
    assert verdict.remedy.startswith("see to it; ")
    world.tick(300)
    assert [pod for pod in world.objects(kinds.POD) if names.ROLE_LABEL in pod["metadata"].get("labels", {})] == []


def test_a_bad_flag_is_not_started_twice(world, asked, start):
    asked.class_name = "BAD_FLAG"

    verdict, sizes = start(crashes=99)

    assert isinstance(verdict, Fail)
    assert verdict.cause.startswith("BAD_FLAG on pod chat-")
    assert leaders_ever(world) == 1
    assert sizes[-1][1] == 0


def test_clearing_create_group_after_it_was_put_right_begins_a_new_budget(world, asked, start, run_of):
    asked.class_name = "BAD_FLAG"
    start(crashes=99)
    stands = runner.advance("await_cold_start", run_of(changes=ROOMY, attempt=2), world.ports, world.now)
    assert isinstance(stands, Fail)

    verdict, _ = start(crashes=0, run=run_of(changes=ROOMY, attempt=2))

    assert isinstance(verdict, Done)
    assert ledger_of(world) == Ledger()


def test_a_rerun_in_mid_pause_goes_on_with_the_same_count(world, asked, start, run_of, monkeypatch):
    asked.class_name = "TIMEOUT"

    class Killed(BaseException):
        """The worker dies here."""

    def kill(step, *args):
        if world.objects(kinds.LEADER_WORKER_SET) and ledger_of(world).failures == 2:
            raise Killed
        return look(step, *args)

    look = runner.look
    monkeypatch.setattr(runner, "look", kill)
    with pytest.raises(Killed):
        start(crashes=99)
    monkeypatch.setattr(runner, "look", look)
    before = ledger_of(world)
    verdict, _ = start(crashes=99, run=run_of(changes=ROOMY, attempt=2))

    assert before.failures == 2
    assert before.resume_at is not None
    assert isinstance(verdict, Fail)
    assert leaders_ever(world) == 1 + 3


def test_a_node_that_ended_two_generations_makes_place_for_a_spare_whose_fabric_is_measured(world, start):
    verdict, _ = start(crashes=2)

    plan = record.load(world.cluster, "default", "chat").run("run-v1").plan
    assert isinstance(verdict, Done)
    assert plan.nodes == ("node-2", "node-3", "node-4")
    assert plan.excluded_nodes == {"node-1": "2 starts failed there first: HOST_MEMORY"}
    pods = [pod for pod in world.objects(kinds.POD) if names.ROLE_LABEL in pod["metadata"].get("labels", {})]
    assert {pod["spec"]["nodeName"] for pod in pods} == set(plan.nodes)
    assert sum(what.startswith("create Job chat-fabric-") for what in world.cluster.writes) == 2


def test_a_spare_whose_fabric_is_unfit_is_not_started_on(world, start):
    good = world.controllers.job_ends["validate_rdma"]
    bad = Ending({**good.line, "verdict": "FAIL", "sentence": "node-4: 40 of 400 Gb/s"})
    measured = []

    def answer(job):
        measured.append(job["metadata"]["name"])
        return good if len(set(measured)) == 1 else bad

    world.controllers.job_ends["validate_rdma"] = answer
    verdict, sizes = start(crashes=2)

    assert isinstance(verdict, Fail)
    assert "the plan leaves node-1 out now, and then: " in verdict.cause
    assert "40 of 400 Gb/s" in verdict.cause
    assert sizes[-1][1] == 0
    assert leaders_ever(world) == 2


def test_without_a_spare_it_goes_on_where_it_is(world, start):
    for index in (4, 5, 6):
        world.cluster.forget({"apiVersion": "v1", "kind": "Node", "metadata": {"name": f"node-{index}"}})

    verdict, _ = start(crashes=2)

    assert isinstance(verdict, Done)
    assert record.load(world.cluster, "default", "chat").run("run-v1").plan.excluded_nodes == {}


def test_a_flag_is_never_blamed_on_a_node(world, asked, start):
    asked.class_name = "BAD_FLAG"
    start(crashes=2)

    assert record.load(world.cluster, "default", "chat").run("run-v1").plan.excluded_nodes == {}


def test_groups_that_have_come_up_are_handed_to_the_controller_and_keep_running(world, start):
    """A new policy is a new revision, and without the partition a new revision restarts them."""
    start(crashes=0)

    (lws,) = world.objects(kinds.LEADER_WORKER_SET)
    assert lws["spec"]["leaderWorkerTemplate"]["restartPolicy"] == "RecreateGroupAfterStart"
    assert leaders_ever(world) == 1
    assert restart_ledger.read(lws) == Ledger()
    world.tick()
    assert leaders_ever(world) == 1


def test_what_await_cold_start_calls_done_is_in_the_controller_s_hands(world, drive_before, run_of):
    drive_before("smoke_test", run_of())

    (lws,) = world.objects(kinds.LEADER_WORKER_SET)
    assert lws["spec"]["leaderWorkerTemplate"]["restartPolicy"] == "RecreateGroupAfterStart"


def test_nobody_else_recreates_a_candidate_while_it_starts(world, drive_before, run_of):
    drive_before("await_cold_start", run_of())
    (lws,) = world.objects(kinds.LEADER_WORKER_SET)
    world.controllers.starts[lws["metadata"]["name"].removeprefix("chat-")] = Start(crashes=9)

    for _ in range(60):
        world.tick()

    assert leaders_ever(world) == 1


def test_a_group_that_pauses_is_left_alone_by_create_group(candidate, rollout):
    seen = create_group.Seen(candidate(None, None, PAUSED, replicas=0).lws, {"metadata": {"labels": {}}}, None, False)
    service = {"kind": "Service", "metadata": {"labels": {names.MODEL_LABEL: "chat"}}}

    assert isinstance(create_group.decide(rollout, replace(seen, service=service), NOW), Done)
