from collections import Counter

import pytest

from llm_rollout import kinds, names, record, runner
from llm_rollout.errors import Transient
from llm_rollout.rollout import PREVIOUS, Rollout
from llm_rollout.spec import RolloutSpec
from llm_rollout.steps import PIPELINE, measuring
from llm_rollout.testing import Ending, Simulation, Start
from llm_rollout.verdict import Done, Fail

COMMITS = {"v1": "1" * 40, "v2": "2" * 40, "v3": "3" * 40}
SPEC = {
    "name": "chat",
    "model": {"repo": "org/chat"},
    "server": {"nodes_per_group": 3, "tensor_parallel": 8, "pipeline_parallel": 3},
    "service": {"name": "chat-api"},
    "timing": {"cold_start_seconds": 60, "bake_seconds": 5, "drain_seconds": 5},
}


@pytest.fixture
def world():
    simulation = Simulation("chat", COMMITS)
    simulation.add_nodes(6)
    simulation.add_claim("default", "model-store")
    return simulation


def spec_with(**changes):
    return RolloutSpec.model_validate({**SPEC, **changes})


def run_of(revision, run_id=None, attempt=1, **options):
    run_id = run_id or f"run-{revision}"
    return Rollout(options.pop("spec", spec_with()), run_id, f"{run_id}/{attempt}", revision, **options)


def roll(world, rollout, steps=PIPELINE):
    """What the DAG does: the steps in order, roll_back after the first failure, conclude always."""
    told = []
    for step in steps:
        verdict = world.drive(step, rollout)
        told.append((step, type(verdict).__name__))
        if isinstance(verdict, Fail):
            told.append(("roll_back", type(world.drive("roll_back", rollout)).__name__))
            break
    end = world.drive("conclude", rollout)
    return [*told, ("conclude", type(end).__name__)], end


def revision_ids(world):
    return [one["metadata"]["labels"][names.REVISION_LABEL] for one in world.objects(kinds.LEADER_WORKER_SET)]


def selected(world):
    service = world.cluster.get(kinds.SERVICE, "default", "chat-api")
    return service["spec"]["selector"][names.REVISION_LABEL]


def the_record(world):
    return record.load(world.cluster, "default", "chat")


def the_holder(world):
    return world.cluster.get(kinds.LEASE, "default", "llm-rollout-chat")["spec"].get("holderIdentity")


def changes_of(world, since=0):
    """Writes to the cluster in order, without those to record and lease."""
    return [what for what in world.cluster.writes[since:] if "llm-rollout-chat" not in what]


ALL_DONE = [(step, "Done") for step in (*PIPELINE, "conclude")]


def test_a_first_deployment_runs_every_step_and_nothing_twice(world):
    told, end = roll(world, run_of("v1"))

    assert told == ALL_DONE
    candidate = the_record(world).current
    assert "the first deployment" in end.summary
    assert changes_of(world) == [
        f"create Job {names.stage_job_name('chat', COMMITS['v1'])}",
        *[what for what in changes_of(world) if "chat-fabric-" in what][:2],
        f"apply LeaderWorkerSet {candidate.lws}",
        "apply Service chat-api",
        f"apply LeaderWorkerSet {candidate.lws}",
        *[what for what in changes_of(world) if what.startswith("create Job chat-canary-")],
        "replace Service chat-api",
    ]
    assert selected(world) == candidate.revision_id
    assert the_holder(world) is None


def test_an_upgrade_switches_and_leaves_only_the_new_revision(world):
    roll(world, run_of("v1"))
    old = the_record(world).current

    told, _ = roll(world, run_of("v2"))

    assert told == ALL_DONE
    found = the_record(world)
    assert found.current.commit == COMMITS["v2"]
    assert found.previous == old
    assert revision_ids(world) == [found.current.revision_id] == [selected(world)]
    assert [entry.outcome for entry in found.rollouts] == ["succeeded", "succeeded"]
    assert found.rollouts[-1].plan.stable_revision_id == old.revision_id
    assert found.rollouts[-1].plan.nodes == ("node-4", "node-5", "node-6")


def test_the_service_always_has_endpoints_during_an_upgrade(world):
    roll(world, run_of("v1"))
    rollout, lost = run_of("v2"), []

    def watch(what):
        found = world.cluster.get(kinds.ENDPOINT_SLICE, "default", "chat-api")
        if not found["endpoints"]:
            lost.append(what)

    world.cluster.before_write = watch
    roll(world, rollout)

    assert lost == []


def test_a_canary_that_is_worse_is_rolled_back_before_anybody_meets_it(world):
    roll(world, run_of("v1"))
    stable = the_record(world).current
    world.controllers.job_ends["evaluate_canary"] = Ending({
        "event": "report", "decision": "rollback", "metric": "quality", "pairs": 250,
        "sentence": "right answers 60 % against 90 %, margin 3 %",
    })  # fmt: skip

    told, end = roll(world, run_of("v3"))

    assert told == [
        *[(step, "Done") for step in PIPELINE[:6]],
        ("evaluate_canary", "Fail"),
        ("roll_back", "Done"),
        ("conclude", "Fail"),
    ]
    assert "right answers 60 % against 90 %" in end.cause
    assert the_record(world).rollouts[-1].outcome == "rolled_back"
    assert the_record(world).current == stable
    assert revision_ids(world) == [stable.revision_id] == [selected(world)]
    assert not [what for what in world.cluster.writes if what == "replace Service chat-api"][1:]
    assert any(path.startswith("chat/run-v3/roll_back/") for path in world.evidence.kept)
    assert the_holder(world) is None


def test_a_bad_fabric_stops_the_rollout_before_a_group_exists(world):
    world.controllers.job_ends["validate_rdma"] = Ending({
        "event": "report", "verdict": "FAIL", "transport": "rdma", "rows": [],
        "sentence": "node-1 <-> node-2: 120 of 400 Gb/s",
        "bad": [{"kind": "link", "name": "node-1 <-> node-2", "detail": "mlx5_0: 120 of 400 Gb/s"}],
    })  # fmt: skip

    told, end = roll(world, run_of("v1"))

    assert [step for step, verdict in told if verdict == "Fail"] == ["validate_rdma", "conclude"]
    assert "node-1 <-> node-2: 120 of 400 Gb/s" in end.cause
    assert world.objects(kinds.LEADER_WORKER_SET) == []


def test_clearing_a_repaired_step_goes_on_where_it_stands(world):
    bad = {"event": "report", "verdict": "FAIL", "transport": "rdma", "rows": [], "sentence": "slow", "bad": []}
    world.controllers.job_ends["validate_rdma"] = Ending(bad)
    roll(world, run_of("v1"))
    world.controllers.job_ends["validate_rdma"] = Simulation("chat", {}).controllers.job_ends["validate_rdma"]

    again = run_of("v1", attempt=2)
    told, _ = roll(world, again, PIPELINE[2:])

    assert told == [(step, "Done") for step in (*PIPELINE[2:], "conclude")]
    assert the_record(world).rollouts[-1].outcome == "succeeded"
    assert sum("chat-stage" in what for what in world.cluster.writes if what.startswith("create")) == 1


def test_a_crash_loop_is_named_long_before_the_deadline(world):
    revision = revision_of(world, "v1")
    world.controllers.starts[revision] = Start(crashes=9, exit_code=137)
    began = world.now()

    told, end = roll(world, run_of("v1"))

    assert ("await_cold_start", "Fail") in told
    assert "exit code 137" in end.cause
    assert "CUDA out of memory" in end.cause
    assert world.now() - began < 40
    assert world.objects(kinds.LEADER_WORKER_SET) == []


def test_two_crashes_are_forgiven_where_the_cause_may_pass(world):
    passing = Start(crashes=2, last_words="RuntimeError: NCCL error: unhandled system error\n")
    world.controllers.starts[revision_of(world, "v1")] = passing

    told, _ = roll(world, run_of("v1"))

    assert told == ALL_DONE


def revision_of(world, revision):
    plan = world.drive("plan_rollout", run_of(revision, "guess", dry_run=True))
    return plan.evidence["revision_id"]


def test_a_run_that_ended_well_is_never_rewritten(world):
    roll(world, run_of("v1"))
    roll(world, run_of("v2"))
    before = list(world.cluster.writes)

    told, _ = roll(world, run_of("v2", attempt=2))

    assert told == ALL_DONE
    assert world.cluster.writes == before


def test_clearing_an_older_run_that_ended_well_brings_nothing_back(world):
    roll(world, run_of("v1"))
    roll(world, run_of("v2"))
    serving, before = selected(world), list(world.cluster.writes)

    told, _ = roll(world, run_of("v1", attempt=2))

    assert told == ALL_DONE
    assert (selected(world), world.cluster.writes) == (serving, before)


def test_clearing_an_older_failed_run_is_refused(world):
    world.controllers.starts[revision_of(world, "v3")] = Start(crashes=9)
    roll(world, run_of("v3"))
    roll(world, run_of("v1"))
    before = list(world.cluster.writes)

    verdict = runner.advance("create_group", run_of("v3", attempt=2), world.ports, world.now)

    assert isinstance(verdict, Fail)
    assert "run-v1" in verdict.cause
    assert "start a new rollout" in verdict.remedy
    assert world.cluster.writes == before


def test_the_same_target_again_changes_nothing(world):
    roll(world, run_of("v1"))
    before = len(world.cluster.writes)

    told, end = roll(world, run_of("v1", "again"))

    assert told == ALL_DONE
    assert "nothing to do" in end.summary
    assert changes_of(world, before) == []


def test_a_second_run_is_refused_while_the_first_holds_the_lease(world):
    world.drive("plan_rollout", run_of("v1"))
    before = list(world.cluster.writes)

    verdict = runner.advance("plan_rollout", run_of("v2"), world.ports, world.now)
    back = world.drive("roll_back", run_of("v2"))
    end = world.drive("conclude", run_of("v2"))

    assert isinstance(verdict, Fail)
    assert "run-v1 holds the lease" in verdict.cause
    assert isinstance(back, Done)
    assert isinstance(end, Fail)
    assert world.cluster.writes == before


def test_a_run_that_lost_the_lease_writes_nothing_more(world):
    first, second = run_of("v1"), run_of("v2")
    for step in PIPELINE[:3]:
        world.drive(step, first)
    world.tick(5 * 3600)
    world.drive("plan_rollout", second)
    before = list(world.cluster.writes)

    verdict = runner.advance("create_group", first, world.ports, world.now)

    assert isinstance(verdict, Fail)
    assert "run-v2" in verdict.cause
    assert world.cluster.writes == before


def test_the_lease_is_checked_between_writes(world):
    first = run_of("v1")
    for step in PIPELINE[:3]:
        world.drive(step, first)

    def steal(what):
        if what.startswith("apply LeaderWorkerSet"):
            world.cluster.before_write = lambda _what: None
            lease = world.cluster.get(kinds.LEASE, "default", "llm-rollout-chat")
            world.cluster.replace({**lease, "spec": {**lease["spec"], "holderIdentity": "thief"}})

    world.cluster.before_write = steal
    world.drive("create_group", first)

    verdict = runner.advance("await_cold_start", first, world.ports, world.now)
    assert isinstance(verdict, Fail)
    assert "thief holds the lease" in verdict.cause


class Killed(BaseException):
    """The worker dies here."""


def writes_of_an_upgrade():
    world = Simulation("chat", COMMITS)
    world.add_nodes(6)
    world.add_claim("default", "model-store")
    roll(world, run_of("v1"))
    before = len(world.cluster.writes)
    roll(world, run_of("v2"))
    return len(world.cluster.writes) - before


@pytest.mark.parametrize("survived", range(writes_of_an_upgrade()))
def test_a_worker_killed_before_any_write_leaves_nothing_that_a_rerun_does_not_finish(world, survived):
    roll(world, run_of("v1"))
    left = iter(range(survived))

    def kill(_what):
        if next(left, None) is None:
            world.cluster.before_write = lambda _what: None
            raise Killed

    world.cluster.before_write = kill
    with pytest.raises(Killed):
        roll(world, run_of("v2"))
    told, _ = roll(world, run_of("v2", attempt=2))

    assert told == ALL_DONE
    found = the_record(world)
    assert revision_ids(world) == [found.current.revision_id] == [selected(world)]
    assert found.current.commit == COMMITS["v2"]
    assert found.previous.commit == COMMITS["v1"]
    created = [what for what in world.cluster.writes if what.startswith("create")]
    assert len(created) == len(set(created))
    applied = Counter(what for what in world.cluster.writes if what.startswith("apply Leader"))
    assert set(applied.values()) == {2}, "once to start, once to hand it to the controller"


def bad_node_2(job):
    """The fabric as it is: node-2 is bad, whoever measures it."""
    healthy = Simulation("chat", {}).controllers.job_ends["validate_rdma"].line
    part = {"kind": "node", "name": "node-2", "detail": "mlx5_0: 40 of 400 Gb/s"}
    bad = {**healthy, "verdict": "FAIL", "sentence": "FAIL: node node-2 mlx5_0", "bad": [part]}
    return Ending(bad if "node-2" in measuring.nodes_of(job) else healthy)


def writes_around_a_bad_node():
    world = Simulation("chat", COMMITS)
    world.add_nodes(6)
    world.add_claim("default", "model-store")
    world.controllers.job_ends["validate_rdma"] = bad_node_2
    roll(world, run_of("v1"))
    return len(world.cluster.writes)


@pytest.mark.parametrize("survived", range(writes_around_a_bad_node()))
def test_a_worker_killed_around_a_bad_node_leaves_nothing_that_a_rerun_does_not_finish(world, survived):
    world.controllers.job_ends["validate_rdma"] = bad_node_2
    left = iter(range(survived))

    def kill(_what):
        if next(left, None) is None:
            world.cluster.before_write = lambda _what: None
            raise Killed

    world.cluster.before_write = kill
    with pytest.raises(Killed):
        roll(world, run_of("v1"))

    told, _ = roll(world, run_of("v1", attempt=2))

    entry = the_record(world).run("run-v1")
    assert told[-1] == ("conclude", "Done")
    assert entry.plan.nodes == ("node-1", "node-3", "node-4")
    assert list(entry.plan.excluded_nodes) == ["node-2"]
    assert len(revision_ids(world)) == 1
    pods = [pod for pod in world.objects(kinds.POD) if names.ROLE_LABEL in pod["metadata"].get("labels", {})]
    assert {pod["spec"]["nodeName"] for pod in pods} == {"node-1", "node-3", "node-4"}


def test_the_next_rollout_of_another_revision_measures_the_bad_node_anew(world):
    world.controllers.job_ends["validate_rdma"] = bad_node_2
    roll(world, run_of("v1"))
    world.controllers.job_ends["validate_rdma"] = Simulation("chat", {}).controllers.job_ends["validate_rdma"]

    told, _ = roll(world, run_of("v2"))

    assert told == ALL_DONE
    assert the_record(world).rollouts[-1].plan.nodes == ("node-2", "node-5", "node-6")


def test_a_dry_run_excludes_nothing(world):
    world.controllers.job_ends["validate_rdma"] = bad_node_2

    verdict = world.drive("plan_rollout", run_of("v1", dry_run=True))

    assert verdict.evidence["nodes"] == ["node-1", "node-2", "node-3"]
    assert world.cluster.writes == []


@pytest.mark.parametrize("step", PIPELINE[3:])
def test_a_failure_of_any_step_ends_on_the_revision_that_was_good(world, step):
    roll(world, run_of("v1"))
    stable = the_record(world).current
    rollout = run_of("v2")
    for earlier in PIPELINE[: PIPELINE.index(step)]:
        world.drive(earlier, rollout)

    back = world.drive("roll_back", rollout)
    end = world.drive("conclude", rollout)

    assert isinstance(back, Done)
    assert isinstance(end, Fail)
    if step == "retire_previous":  # The new revision has proved itself: only the tidying up is missing.
        assert the_record(world).current.commit == COMMITS["v2"]
        assert sorted(revision_ids(world)) == sorted([stable.revision_id, selected(world)])
        return
    assert revision_ids(world) == [stable.revision_id] == [selected(world)]
    assert the_record(world).current == stable


def test_live_errors_bring_the_old_revision_back_while_it_is_warm(world):
    roll(world, run_of("v1"))
    stable, rollout = the_record(world), run_of("v2")
    for step in PIPELINE[:8]:
        world.drive(step, rollout)
    leader = f"{the_record(world).current.lws}-0"
    world.server.finished[leader], world.server.errors[leader] = 100, 30

    verdict = world.drive("watch_live", rollout)
    began = world.now()
    runner.advance("roll_back", rollout, world.ports, world.now)

    assert isinstance(verdict, Fail)
    assert "30 of 100 live requests" in verdict.cause
    assert selected(world) == stable.current.revision_id
    assert world.now() == began
    assert isinstance(world.drive("roll_back", rollout), Done)
    assert (the_record(world).current, the_record(world).previous) == (stable.current, stable.previous)


def test_a_failed_first_deployment_leaves_a_service_that_sends_nobody_anywhere(world):
    rollout = run_of("v1")
    for step in PIPELINE[:8]:
        world.drive(step, rollout)

    world.drive("roll_back", rollout)

    assert selected(world) == "none"
    assert the_record(world).current is None
    assert world.objects(kinds.LEADER_WORKER_SET) == []


def test_a_person_returns_to_the_previous_revision_and_it_serves_before_the_other_goes(world):
    roll(world, run_of("v1"))
    roll(world, run_of("v2"))
    before = the_record(world)
    back = run_of(PREVIOUS, "person")

    told, end = roll(world, back, ("roll_back",))

    after = the_record(world)
    assert told == [("roll_back", "Done"), ("conclude", "Done")]
    assert "Returned to revision" in end.summary
    assert (after.current, after.previous) == (before.previous, before.current)
    assert revision_ids(world) == [before.previous.revision_id] == [selected(world)]
    again, _ = roll(world, run_of(PREVIOUS, "person", attempt=2), ("roll_back",))
    assert again == told
    assert selected(world) == before.previous.revision_id


def test_a_return_without_a_previous_revision_says_so(world):
    roll(world, run_of("v1"))

    told, end = roll(world, run_of(PREVIOUS, "person"), ("roll_back",))

    assert ("roll_back", "Fail") in told
    assert "no previous revision" in end.cause


def test_a_dry_run_writes_nothing_and_prints_the_plan(world):
    verdict = world.drive("plan_rollout", run_of("v1", dry_run=True))

    assert world.cluster.writes == []
    assert "node-1, node-2, node-3" in verdict.summary
    assert verdict.evidence["gpus_needed"] == 24
    assert verdict.evidence["gpus_free"] == 48
    assert verdict.evidence["bytes_to_fetch"] == 1000
    assert verdict.evidence["users_see_an_outage"] is False


def test_missing_gpus_are_counted_by_node(world):
    roll(world, run_of("v1"))
    world.cluster.forget({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-6"}})

    told, end = roll(world, run_of("v2"))

    assert told == [("plan_rollout", "Fail"), ("roll_back", "Done"), ("conclude", "Fail")]
    assert "8 GPUs are missing on 1 nodes" in end.cause
    assert "node-1: 0 of 8 GPUs free, held by chat-" in end.cause


def test_an_answer_that_does_not_come_is_asked_for_again_and_never_taken_for_a_bad_one(world):
    def fail(_what):
        raise Transient("the API server did not answer")

    world.cluster.before_write = fail
    with pytest.raises(Transient):
        runner.advance("plan_rollout", run_of("v1"), world.ports, world.now)


def test_a_wait_that_never_ends_fails_with_what_it_waited_for(world):
    rollout = run_of("v1", spec=spec_with(timing={"cold_start_seconds": 20, "bake_seconds": 0, "drain_seconds": 0}))
    world.controllers.starts[revision_of_spec(world, rollout.spec)] = Start(seconds=1e9)
    for step in PIPELINE[:4]:
        world.drive(step, rollout)

    verdict = world.drive("await_cold_start", rollout)

    assert isinstance(verdict, Fail)
    assert "waited 20 s of at most 20 s, and still: 0 of 1 groups ready" in verdict.cause
    assert the_record(world).run(rollout.run_id).step("await_cold_start").verdict == "fail"


def revision_of_spec(world, spec):
    return world.drive("plan_rollout", run_of("v1", "guess", spec=spec, dry_run=True)).evidence["revision_id"]
