import pytest

from llm_rollout import clock, kinds, names
from llm_rollout.manifests.autoscaler import autoscaler
from llm_rollout.steps import retire_previous
from llm_rollout.steps.retire_previous import Delete, Scale, Seen
from llm_rollout.steps.traffic import Traffic
from llm_rollout.verdict import Act, Done, Fail, Wait

NOW = 1_790_000_000.0


@pytest.fixture
def old(serving, make_rollout):
    def lws(**metadata):
        manifest = serving(make_rollout(lws="chat-bbbbbbbb", revision_id="bbbbbbbb"))
        return {**manifest, "metadata": {**manifest["metadata"], **metadata}}

    return lws


@pytest.fixture
def seen(rollout, make_service):
    def state(*, seconds_ago=60, selected="aaaaaaaa", groups=(), pods=(), left_over=(), scaler=None):
        traffic = Traffic(make_service(rollout, selected, clock.rfc3339(NOW - seconds_ago)))
        return Seen(traffic, tuple(groups), tuple(pods), tuple(left_over), scaler)

    return state


GOING = {"deletionTimestamp": "2026-11-24T10:00:00Z", "finalizers": ["foregroundDeletion"]}


def test_nothing_old_is_done(rollout, seen):
    assert isinstance(retire_previous.decide(rollout, seen(), NOW), Done)


@pytest.mark.parametrize(("seconds_ago", "expected"), [(4, Wait), (5, Act)], ids=["draining", "drained"])
def test_open_streams_get_their_time(rollout, seen, old, seconds_ago, expected):
    verdict = retire_previous.decide(rollout, seen(seconds_ago=seconds_ago, groups=[old()]), NOW)

    assert isinstance(verdict, expected)
    assert "chat-bbbbbbbb" in str(verdict)


@pytest.mark.parametrize("selected", ["bbbbbbbb", "cccccccc", None])
def test_nothing_is_deleted_unless_clients_are_on_the_new_revision(rollout, seen, old, selected):
    verdict = retire_previous.decide(rollout, seen(selected=selected, groups=[old()]), NOW)

    assert isinstance(verdict, Fail)
    assert "nothing was deleted" in verdict.cause


def test_what_goes_is_waited_for(rollout, seen, old, make_pod):
    assert isinstance(retire_previous.decide(rollout, seen(groups=[old(**GOING)]), NOW), Wait)
    assert isinstance(retire_previous.decide(rollout, seen(pods=[make_pod("chat-bbbbbbbb-0")]), NOW), Wait)


def test_jobs_of_earlier_runs_go_too(rollout, seen):
    job = {"kind": "Job", "metadata": {"name": "chat-stage-x", "namespace": "default", "uid": "u"}}

    verdict = retire_previous.decide(rollout, seen(left_over=[(kinds.JOB, job)]), NOW)

    assert verdict.plan == Delete(((kinds.JOB, job),))


def foreign(manifest):
    return {**manifest, "metadata": {**manifest["metadata"], "labels": {}}}


@pytest.mark.parametrize(
    "case", ["missing", "of the old group", "as wanted", "foreign", "not wanted", "foreign, not asked"]
)
def test_the_autoscaler_follows_the_new_revision(make_rollout, seen, case):
    scaling = {"autoscaling": {"max_groups": 2}}
    rollout = make_rollout({} if case in ("not wanted", "foreign, not asked") else scaling)
    wanted = autoscaler(make_rollout(scaling).spec, "chat-aaaaaaaa")
    found, expected = {
        "missing": (None, Scale(wanted)),
        "of the old group": (
            autoscaler(rollout.spec, "chat-bbbbbbbb") if rollout.spec.autoscaling else None,
            Scale(wanted),
        ),
        "as wanted": (wanted, Done),
        "foreign": (foreign(wanted), Fail),
        "not wanted": (wanted, Delete(((kinds.HORIZONTAL_POD_AUTOSCALER, wanted),))),
        "foreign, not asked": (foreign(wanted), Done),
    }[case]

    verdict = retire_previous.decide(rollout, seen(scaler=found), NOW)

    assert verdict.plan == expected if isinstance(verdict, Act) else isinstance(verdict, expected)


def upgraded(world, run_of, drive_before):
    drive_before("retire_previous", run_of("v1"))
    world.drive("retire_previous", run_of("v1"))
    world.drive("conclude", run_of("v1"))
    return drive_before("retire_previous", run_of("v2"))


def test_only_what_is_old_is_seen_as_old(world, run_of, drive_before):
    rollout = upgraded(world, run_of, drive_before)

    state = retire_previous.observe(rollout, world.ports)

    old_revision = rollout.planned.stable_revision_id
    assert {one["metadata"]["labels"][names.REVISION_LABEL] for one in (*state.groups, *state.pods)} == {old_revision}
    assert len(state.pods) == 3
    left = {one["metadata"]["name"] for _, one in state.left_over}
    assert not any(rollout.planned.revision_id in name for name in left)
    assert names.stage_job_name("chat", "1" * 40) in left
    assert names.stage_job_name("chat", "2" * 40) not in left


def test_a_group_made_anew_under_the_same_name_is_not_deleted_by_mistake(world, run_of, drive_before):
    rollout = upgraded(world, run_of, drive_before)
    verdict = retire_previous.decide(rollout, retire_previous.observe(rollout, world.ports), world.now() + 60)
    doomed = verdict.plan.objects[0][1]
    world.cluster.forget(doomed)
    fresh = {key: doomed["metadata"][key] for key in ("name", "namespace", "labels", "annotations")}
    world.cluster.create({**doomed, "metadata": fresh})

    with pytest.raises(Exception, match="UID"):
        retire_previous.act(verdict.plan, world.ports)
