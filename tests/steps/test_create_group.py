import pytest

from llm_rollout import kinds, names
from llm_rollout.errors import Permanent
from llm_rollout.manifests.leader_worker_set import leader_worker_set, scaled
from llm_rollout.manifests.service import service
from llm_rollout.steps import create_group
from llm_rollout.steps.create_group import Seen
from llm_rollout.steps.restart_ledger import Ledger, Spent
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


def with_ledger(lws, replicas, **ledger):
    annotations = {**lws["metadata"]["annotations"], names.RESTARTS_ANNOTATION: Ledger(**ledger).text()}
    metadata = {**lws["metadata"], "annotations": annotations}
    return {**lws, "metadata": metadata, "spec": {**lws["spec"], "replicas": replicas}}


def test_a_candidate_that_was_given_up_is_made_anew(world, run_of, drive_before):
    rollout = drive_before("await_cold_start", run_of())
    (before,) = world.objects(kinds.LEADER_WORKER_SET)
    spent = Ledger(failures=4, spent=Spent(since=NOW, cause="why", remedy="what"))
    world.cluster.apply(scaled(leader_worker_set(rollout.spec, rollout.planned), before, 0, spent.text()))

    assert isinstance(world.drive("create_group", run_of(attempt=2)), Done)

    (after,) = world.objects(kinds.LEADER_WORKER_SET)
    assert after["metadata"]["uid"] != before["metadata"]["uid"]
    assert after["spec"]["replicas"] == 1
    assert names.RESTARTS_ANNOTATION not in after["metadata"]["annotations"]


def test_a_candidate_that_pauses_is_left_to_its_pause_even_under_another_plan(rollout, serving, make_rollout):
    elsewhere = make_rollout(nodes=("node-4", "node-5", "node-6"))
    paused = with_ledger(serving(), 0, failures=2, resume_at=NOW + 10)

    for run in (rollout, elsewhere):
        assert isinstance(told(run, paused, service(rollout.spec, None)), Done)


def test_a_candidate_that_somebody_scaled_to_zero_gets_its_groups_back(rollout, serving):
    verdict = told(rollout, with_ledger(serving(), 0), service(rollout.spec, None))

    assert applied(verdict) == [("LeaderWorkerSet", "chat-aaaaaaaa")]
    assert verdict.plan.manifests[0]["spec"]["replicas"] == 1


def crd(*fields, version="v1"):
    template = {"properties": {field: {"type": "integer"} for field in fields}}
    spec = {"properties": {"leaderWorkerTemplate": template}}
    schema = {"openAPIV3Schema": {"properties": {"spec": spec}}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "leaderworkersets.leaderworkerset.x-k8s.io"},
        "spec": {"versions": [{"name": version, "schema": schema}]},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("installed", "limit"),
    [
        (crd("size", "maxGroupRestarts"), 5),
        (crd("size"), None),
        (crd("maxGroupRestarts", version="v2"), None),
        (None, None),
    ],
    ids=["v1 has it", "v0 has not", "another version has it", "not to be seen"],
)
def test_leader_worker_set_s_own_bound_is_set_where_its_api_has_one(world, run_of, drive_before, installed, limit):
    if installed:
        world.cluster.show(installed)

    drive_before("await_cold_start", run_of(changes={"timing": {"max_recreations": 5}}))

    (lws,) = world.objects(kinds.LEADER_WORKER_SET)
    assert lws["spec"]["leaderWorkerTemplate"].get("maxGroupRestarts") == limit


def test_an_api_that_may_not_be_looked_at_is_taken_for_one_without_a_bound(world, run_of, drive_before, monkeypatch):
    world.cluster.show(crd("maxGroupRestarts"))
    get = world.cluster.get

    def refuse(kind, namespace, name):
        if kind == kinds.CUSTOM_RESOURCE_DEFINITION:
            raise Permanent("customresourcedefinitions is forbidden")
        return get(kind, namespace, name)

    monkeypatch.setattr(world.cluster, "get", refuse)
    drive_before("await_cold_start", run_of())

    (lws,) = world.objects(kinds.LEADER_WORKER_SET)
    assert "maxGroupRestarts" not in lws["spec"]["leaderWorkerTemplate"]


@pytest.mark.parametrize("before", [None, 7], ids=["made by v0", "made by v1"])
@pytest.mark.parametrize("supported", [True, False])
def test_an_upgrade_of_leader_worker_set_in_mid_rollout_restarts_no_pod(
    rollout, serving, make_rollout, before, supported
):
    """Template and bound are one revision for the controller: whatever it runs now, it keeps."""
    lws = serving()
    if before:
        lws["spec"]["leaderWorkerTemplate"]["maxGroupRestarts"] = before
    found = service(rollout.spec, None)

    same = create_group.decide(rollout, Seen(lws, found, None, False, supported), NOW)
    other = create_group.decide(make_rollout(nodes=("node-4",)), Seen(lws, found, None, False, supported), NOW)

    assert isinstance(same, Done)
    assert other.plan.manifests[0]["spec"]["leaderWorkerTemplate"].get("maxGroupRestarts") == before
    lws["spec"]["leaderWorkerTemplate"]["restartPolicy"] = "None"
    paused = scaled(
        leader_worker_set(rollout.spec, rollout.planned), {**lws, "metadata": {"resourceVersion": "5"}}, 0, "{}"
    )
    assert paused["spec"]["leaderWorkerTemplate"] == lws["spec"]["leaderWorkerTemplate"]
