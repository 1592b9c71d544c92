import dataclasses

import pytest

from llm_rollout import clock, kinds, runner
from llm_rollout.canary import live
from llm_rollout.canary.live_readings import Reading, Times
from llm_rollout.errors import Conflict
from llm_rollout.ports import Reply
from llm_rollout.spec import Timing
from llm_rollout.steps import PIPELINE, live_journal, live_judgement, watch_live
from llm_rollout.steps.group_state import GroupState
from llm_rollout.steps.live_journal import Entry, Journal
from llm_rollout.steps.live_judgement import Judged
from llm_rollout.steps.live_metrics import Load
from llm_rollout.steps.traffic import Traffic
from llm_rollout.verdict import Act, Done, Fail, Wait

NOW = 1_790_000_000.0
BAKE = {"timing": {"cold_start_seconds": 60, "bake_seconds": 100, "drain_seconds": 5}}
LEADER = "chat-aaaaaaaa-0"
OLD = Reading(2000, 10, Times({"0.25": 1900, "+Inf": 1990}, 400.0))


@pytest.fixture
def baking(make_rollout):
    return make_rollout(BAKE)


def noted(*, until, switched_at=NOW, **changes):
    standing = live.begin(live.limits(OLD, 0, 0.02), {LEADER: Reading(0)}, until)
    standing = dataclasses.replace(standing, **changes)
    entry = Entry(switched_at=switched_at, revision_id="aaaaaaaa", history_requests=2000, standing=standing)
    return Journal({"metadata": {}}, entry)


def test_the_watch_begins_with_what_the_old_revision_did(baking):
    step = live_judgement.step(baking, Judged(Journal(), {LEADER: Reading(7)}, OLD), NOW, NOW + 1)

    standing = step.plan.entry.standing
    assert [limit.name for limit in standing.limits] == ["errors", "ttft > 0.25 s"]
    assert standing.readings == {LEADER: Reading(7)}
    assert step.plan.entry.history_requests == 2000


@pytest.mark.parametrize(
    ("stable", "seconds", "begins"),
    [
        pytest.param("chat-bbbbbbbb", 1, False, id="asked again"),
        pytest.param("chat-bbbbbbbb", 20, True, id="long enough"),
        pytest.param(None, 1, True, id="there is none"),
    ],
)
def test_old_leaders_that_do_not_answer_are_asked_again_for_a_while(make_rollout, stable, seconds, begins):
    rollout = make_rollout(BAKE, stable_lws=stable)

    step = live_judgement.step(rollout, Judged(Journal(), {LEADER: Reading(7)}), NOW, NOW + seconds)

    assert isinstance(step, Act) == begins
    if begins:
        assert step.plan.entry.standing.limits == (live.Limit("errors", "", -1.0, 0.02),)


@pytest.mark.parametrize(
    ("seconds", "requests", "closes"),
    [
        pytest.param(4, 500, False, id="too early"),
        pytest.param(5, 20, True, id="full"),
        pytest.param(5, 19, False, id="too few requests yet"),
        pytest.param(20, 1, True, id="few requests for long"),
        pytest.param(99, 0, False, id="no traffic is no evidence"),
    ],
)
def test_a_window_is_a_twentieth_of_the_bake_and_has_requests(baking, seconds, requests, closes):
    judged = Judged(noted(until=NOW), {LEADER: Reading(requests)})

    assert isinstance(live_judgement.step(baking, judged, NOW, NOW + seconds), Act) == closes


@pytest.mark.parametrize(("until", "closes"), [(99, True), (100, False)])
def test_what_is_left_at_the_end_of_the_bake_is_the_last_window(baking, until, closes):
    judged = Judged(noted(until=NOW + until), {LEADER: Reading(1)})

    assert isinstance(live_judgement.step(baking, judged, NOW, NOW + 101), Act) == closes


def test_a_window_lasts_no_longer_than_half_a_minute_and_no_shorter_than_a_second():
    lengths = [live_judgement.window_seconds(Timing(bake_seconds=bake)) for bake in (0, 5, 300, 86_400)]

    assert lengths == [1.0, 1.0, 15.0, 30.0]


def test_counters_that_cannot_be_read_are_no_evidence(baking):
    assert live_judgement.step(baking, Judged(noted(until=NOW)), NOW, NOW + 50) is None


def test_whoever_wrote_first_is_respected(world, baking):
    step = live_judgement.step(baking, Judged(Journal(), {LEADER: Reading(7)}, OLD), NOW, NOW + 1)
    live_judgement.act(step.plan, world.ports)

    with pytest.raises(Conflict):
        live_judgement.act(step.plan, world.ports)


def test_an_entry_is_read_back_as_it_was_written_and_only_for_its_switch(world):
    entry = noted(until=NOW).entry
    standing = live.after(entry.standing, {LEADER: Reading(300, 3, Times({"0.25": 280, "+Inf": 297}, 60.0))}, NOW, 0.05)
    entry = entry.model_copy(update={"standing": standing})
    live_journal.KIND.write(world.cluster, "default", "chat", Journal(), entry)

    def found(revision_id, switched_at):
        return live_journal.load(world.cluster, "default", "chat", revision_id, switched_at).entry

    assert found("aaaaaaaa", NOW) == entry
    assert found("aaaaaaaa", NOW + 1) is None
    assert found("bbbbbbbb", NOW) is None


@pytest.mark.parametrize("text", ["", "{", '{"standing": 1}'])
def test_a_journal_that_cannot_be_read_counts_for_nothing(world, text):
    manifest = {"apiVersion": "v1", "kind": "ConfigMap", "data": {live_journal.KIND.key: text}}
    world.cluster.create({**manifest, "metadata": {"name": live_journal.KIND.name("chat"), "namespace": "default"}})

    journal = live_journal.load(world.cluster, "default", "chat", "aaaaaaaa", NOW)

    assert journal.entry is None
    assert journal.found is not None


@pytest.fixture
def watched(baking, serving, make_pod, make_service):
    """What the step decides where a watch stands so."""
    workers = [make_pod(f"{LEADER}-{index}", "worker") for index in (1, 2)]
    group = GroupState(serving(), (make_pod(), *workers))

    def decide(seconds, **changes):
        switched = Traffic(make_service(baking, "aaaaaaaa", clock.rfc3339(NOW)), (LEADER,))
        journal = noted(until=NOW + seconds, **changes)
        judged = Judged(journal, journal.entry.standing.readings)
        return watch_live.decide(baking, watch_live.Seen(switched, group, Load(900, 45, 0, 0), judged), NOW + seconds)

    return decide


def test_a_metric_that_convinced_brings_the_old_revision_back_with_its_counts(watched):
    seen = {"errors": live.Seen(45, 900), "ttft > 0.25 s": live.Seen(10, 300)}
    verdict = watched(50, crossed="errors", windows=9, requests=900, seen=seen)

    assert isinstance(verdict, Fail)
    assert "worse on live traffic (errors): 45 of 900 requests failed (5.0% against 0.5% before" in verdict.cause
    assert "first tokens" not in verdict.cause
    assert verdict.evidence["judged"]["limits"]["errors"] == {"bad": 45, "of": 900, "before": 0.005, "most": 0.01}


def test_a_bake_that_ends_well_says_with_how_many_requests(watched):
    seen = {"errors": live.Seen(4, 900), "ttft > 0.25 s": live.Seen(30, 600)}
    verdict = watched(100, windows=9, requests=900, seen=seen)

    assert isinstance(verdict, Done)
    assert "was healthy on live traffic for 100 s: 900 requests in 9 windows" in verdict.summary
    assert "5.0% of 600 first tokens took over 0.25 s against 4.5% before" in verdict.summary


def test_a_bake_without_traffic_ends_well_and_says_that_nothing_was_judged(watched):
    verdict = watched(100)

    assert isinstance(verdict, Done)
    assert "too little live traffic to judge" in verdict.summary


def serve(world, leader, requests, errors=0):
    world.server.finished[leader] = world.server.finished.get(leader, 0) + requests
    world.server.errors[leader] = world.server.errors.get(leader, 0) + errors


def switched(world, run_of, drive_before):
    """A second revision that has just been switched to; the first has a history of 2,000 requests."""
    for step in (*PIPELINE, "conclude"):
        world.drive(step, run_of("v1", BAKE))
    (old,) = world.objects(kinds.LEADER_WORKER_SET)
    serve(world, f"{old['metadata']['name']}-0", 2000, 10)
    rollout = drive_before("watch_live", run_of("v2", BAKE))
    return rollout, f"{rollout.planned.lws}-0"


def watch(world, rollout, traffic):
    """Look every second while ``traffic`` serves; what the step ended with, and after how many seconds."""
    for second in range(200):
        verdict = runner.advance("watch_live", rollout, world.ports, world.now)
        if not isinstance(verdict, Wait):
            return verdict, second
        traffic()
        world.tick()
    pytest.fail("watch_live never ended")


def test_errors_above_the_old_rate_end_the_bake_early(world, run_of, drive_before):
    rollout, leader = switched(world, run_of, drive_before)

    verdict, seconds = watch(world, rollout, lambda: serve(world, leader, 20, 1))

    assert isinstance(verdict, Fail)
    assert "5.0% against 0.5% before, up to 1.0% is borne" in verdict.cause
    assert seconds <= 40
    assert "windows of live traffic</title>" in world.evidence.kept["chat/run-v2/watch_live.svg"]


def test_the_same_rate_as_before_passes_the_bake(world, run_of, drive_before):
    rollout, leader = switched(world, run_of, drive_before)
    turn = iter(range(1000))

    verdict, seconds = watch(world, rollout, lambda: serve(world, leader, 20, next(turn) % 10 == 0))

    assert isinstance(verdict, Done)
    assert seconds == 99  # The first passed between the switch and the first look.
    assert "1980 requests in 20 windows: 10 of 1980 requests failed" in verdict.summary


def test_a_look_by_somebody_else_in_mid_watch_changes_no_pot(world, run_of, drive_before):
    """Every second by a task that forgets everything, beside another one: the same windows as by one alone."""
    rollout, leader = switched(world, run_of, drive_before)

    def traffic():
        serve(world, leader, 20, 0)
        for _ in range(2):
            runner.advance("watch_live", rollout, world.ports, world.now)

    verdict, _ = watch(world, rollout, traffic)

    assert "1980 requests in 20 windows" in verdict.summary


def test_metrics_that_vanish_for_a_while_cost_no_request(world, run_of, drive_before):
    rollout, leader = switched(world, run_of, drive_before)
    began = world.now()

    def traffic():
        serve(world, leader, 20)
        gone = 10 < world.now() - began < 50
        world.server.broken = {"/metrics": Reply(503, "")} if gone else {}

    verdict, _ = watch(world, rollout, traffic)

    assert isinstance(verdict, Done)
    assert "1980 requests in" in verdict.summary


def test_what_was_judged_of_one_switch_does_not_count_for_the_next(world, run_of, drive_before):
    rollout, leader = switched(world, run_of, drive_before)
    failed, _ = watch(world, rollout, lambda: serve(world, leader, 20, 1))
    assert isinstance(failed, Fail)
    assert isinstance(runner.advance("watch_live", rollout, world.ports, world.now), Fail)

    service = world.cluster.get(kinds.SERVICE, "default", "chat-api")
    stamp = {**service["metadata"]["annotations"], "llm-rollout.dev/switched-at": clock.rfc3339(world.now())}
    world.cluster.replace({**service, "metadata": {**service["metadata"], "annotations": stamp}})

    verdict = runner.advance("watch_live", rollout, world.ports, world.now)
    assert isinstance(verdict, Wait)
