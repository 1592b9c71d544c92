import pytest

from llm_rollout import kinds
from llm_rollout.manifests.service import service
from llm_rollout.steps import create_group
from llm_rollout.steps.create_group import Seen
from llm_rollout.verdict import Act, Done, Fail, Wait

NOW = 1_790_000_000.0


def told(rollout, lws, found_service, monitor=None, *, served=False):
    return create_group.decide(rollout, Seen(lws, found_service, monitor, served), NOW)


def applied(verdict):
    return [(one["kind"], one["metadata"]["name"]) for one in verdict.plan.manifests]


def test_group_and_service_are_made(rollout):
    verdict = told(rollout, None, None)

    assert applied(verdict) == [("LeaderWorkerSet", "chat-aaaaaaaa"), ("Service", "chat-api")]


def test_a_new_service_keeps_sending_clients_to_stable(rollout):
    verdict = told(rollout, None, None)

    assert verdict.plan.manifests[1]["spec"]["selector"]["llm-rollout.dev/revision-id"] == "bbbbbbbb"


def test_a_first_service_sends_clients_nowhere(make_rollout):
    verdict = told(make_rollout(stable_lws=None, stable_revision_id=None), None, None)

    assert verdict.plan.manifests[1]["spec"]["selector"]["llm-rollout.dev/revision-id"] == "none"


def test_an_existing_service_is_left_as_it_is(rollout, serving):
    assert isinstance(told(rollout, serving(), service(rollout.spec, "bbbbbbbb")), Done)


def test_the_same_content_is_adopted(rollout, serving):
    verdict = told(rollout, serving(), service(rollout.spec, None))

    assert isinstance(verdict, Done)
    assert "node-1, node-2, node-3" in verdict.summary


def test_other_nodes_are_applied(rollout, serving, make_rollout):
    verdict = told(rollout, serving(make_rollout(nodes=("node-4", "node-5", "node-6"))), service(rollout.spec, None))

    assert applied(verdict) == [("LeaderWorkerSet", "chat-aaaaaaaa")]


@pytest.mark.parametrize("kind", ["lws", "service"])
def test_what_is_somebody_else_s_is_refused(rollout, serving, kind):
    objects = {"lws": serving(), "service": service(rollout.spec, None)}
    objects[kind] = {**objects[kind], "metadata": {**objects[kind]["metadata"], "labels": {}}}

    verdict = told(rollout, objects["lws"], objects["service"])

    assert isinstance(verdict, Fail)
    assert "without the label llm-rollout.dev/model=chat" in verdict.cause


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"deletionTimestamp": "2026-11-24T10:00:00Z"}, "being deleted"),
        ({"generation": 2}, "has seen generation 1 of 2"),
    ],
    ids=["going", "not observed"],
)
def test_controllers_are_waited_for(rollout, serving, changes, words):
    lws = serving()
    lws["metadata"] |= changes

    verdict = told(rollout, lws, service(rollout.spec, None))

    assert isinstance(verdict, Wait)
    assert words in verdict.reason


@pytest.mark.parametrize(("served", "expected"), [(True, Act), (False, Done)], ids=["API there", "API missing"])
def test_a_pod_monitor_is_made_where_its_api_is(make_rollout, serving, served, expected):
    rollout = make_rollout({"pod_monitor": True})

    verdict = told(rollout, serving(rollout), service(rollout.spec, None), served=served)

    assert isinstance(verdict, expected)
    if served:
        assert applied(verdict) == [("PodMonitor", "chat")]


def test_applying_twice_changes_nothing(world, run_of, drive_before, advance):
    rollout = drive_before("create_group", run_of())
    verdict = create_group.decide(rollout, create_group.observe(rollout, world.ports), world.now())
    advance("plan_rollout", run_of())
    create_group.act(verdict.plan, world.ports)
    before = list(world.cluster.writes)

    create_group.act(verdict.plan, world.ports)

    assert world.cluster.writes == before
    assert len(world.objects(kinds.LEADER_WORKER_SET)) == 1
