"""Requests that move by an HTTPRoute before the Service switches: whole rollouts in memory, and what stops them."""

import pytest

from llm_rollout import kinds, names, record
from llm_rollout.errors import Transient
from llm_rollout.manifests import http_route
from llm_rollout.rollout import Rollout
from llm_rollout.spec import RolloutSpec
from llm_rollout.steps import PIPELINE, shift_judgement
from llm_rollout.verdict import Done, Fail

STEPS = (5, 25, 50)
SHIFT = {"http_route": "chat", "percent": list(STEPS), "step_seconds": 8, "step_pairs": 60, "deadline_seconds": 120}
BESIDE = "chat-api-candidate"
STABLE_ERRORS = 0.005


@pytest.fixture
def route():
    return {
        "apiVersion": kinds.HTTP_ROUTE.api_version,
        "kind": "HTTPRoute",
        "metadata": {"name": "chat", "namespace": "default"},
        "spec": {
            "parentRefs": [{"name": "gateway"}],
            "rules": [{"matches": [{"path": {"value": "/"}}], "backendRefs": [{"name": "chat-api", "port": 80}]}],
        },
    }


class Users:
    """Requests that the gateway shares out while the clock goes on."""

    def __init__(self, world, spec, per_second=40.0):
        self.world, self.spec, self.per_second = world, spec, per_second
        self.errors = {}
        """Part of the requests that fail, by revision; ``STABLE_ERRORS`` for others."""
        self.due = {}
        self.shares = []
        self.tick = world.tick
        world.tick = self.go_on

    def go_on(self, seconds=1.0):
        self.tick(seconds)
        route = self.world.cluster.get(kinds.HTTP_ROUTE, "default", "chat")
        share = http_route.share(route, self.spec) / 100 if route else 0.0
        if not self.shares or self.shares[-1] != round(100 * share):
            self.shares.append(round(100 * share))
        for service, part in (("chat-api", 1 - share), (BESIDE, share)):
            self.ask(service, seconds * self.per_second * part)

    def ask(self, service, requests):
        found = self.world.cluster.get(kinds.ENDPOINT_SLICE, "default", service)
        behind = [one["targetRef"]["name"] for one in (found or {}).get("endpoints", [])]
        for leader in behind:
            server, revision = self.world.server, leader.split("-")[1]
            self.due[leader] = self.due.get(leader, 0.0) + requests / len(behind)
            server.finished[leader] = int(self.due[leader])
            server.errors[leader] = int(self.due[leader] * self.errors.get(revision, STABLE_ERRORS))


@pytest.fixture
def spec(run_of):
    return run_of("v1", {"shift": SHIFT}).spec


@pytest.fixture
def users(world, spec, route):
    world.cluster.show(route)
    world.controllers.tick()
    return Users(world, spec)


@pytest.fixture
def upgrade(world, run_of, users):
    """v1 serves; the run of v2 is to be driven."""
    first = run_of("v1", {"shift": SHIFT})
    for step in (*PIPELINE, "conclude"):
        assert isinstance(world.drive(step, first), Done), step
    users.shares.clear()
    return run_of("v2", {"shift": SHIFT})


def drive_to(world, rollout, last):
    """Drive all steps before ``last``; the candidate's revision_id."""
    for step in PIPELINE[: PIPELINE.index(last)]:
        assert isinstance(world.drive(step, rollout), Done), step
    return record.load(world.cluster, "default", "chat").run(rollout.run_id).plan.revision_id


def the_route(world):
    return world.cluster.get(kinds.HTTP_ROUTE, "default", "chat")


def selected(world, service="chat-api"):
    found = world.cluster.get(kinds.SERVICE, "default", service)
    return found["spec"]["selector"][names.REVISION_LABEL] if found else None


def test_requests_move_step_by_step_and_the_route_is_left_as_it_was(world, upgrade, users):
    before = the_route(world)["spec"]
    candidate = drive_to(world, upgrade, "switch_service")
    began = world.now()
    verdict = world.drive("switch_service", upgrade)

    assert isinstance(verdict, Done)
    assert users.shares == [0, *STEPS, 0]
    assert selected(world) == candidate
    assert the_route(world)["spec"] == before
    assert world.now() - began >= len(STEPS) * SHIFT["step_seconds"]
    assert verdict.evidence["shift"]["percent"] == STEPS[-1]
    assert verdict.evidence["shift"]["pairs"] >= len(STEPS) * SHIFT["step_pairs"]
    assert "<svg" in world.evidence.kept["chat/run-v2/switch_service.svg"]


def test_the_service_of_the_candidate_alone_goes_with_the_old_groups(world, upgrade):
    drive_to(world, upgrade, "watch_live")
    assert selected(world, BESIDE) == selected(world)

    for step in ("watch_live", "retire_previous", "conclude"):
        assert isinstance(world.drive(step, upgrade), Done), step

    assert selected(world, BESIDE) is None


def test_a_first_deployment_has_nothing_to_share_requests_with(world, run_of, users):
    rollout = run_of("v1", {"shift": SHIFT})
    drive_to(world, rollout, "switch_service")

    assert isinstance(world.drive("switch_service", rollout), Done)
    assert users.shares == [0]
    assert selected(world, BESIDE) is None


def test_a_candidate_that_fails_a_part_of_its_requests_is_taken_out_before_the_switch(world, upgrade, users):
    stable = selected(world)
    candidate = drive_to(world, upgrade, "switch_service")
    users.errors[candidate] = 0.3
    verdict = world.drive("switch_service", upgrade)

    assert isinstance(verdict, Fail)
    assert f"{candidate} is worse on {STEPS[0]} % of the live requests (errors)" in verdict.cause
    assert users.shares == [0, STEPS[0]]
    assert selected(world) == stable

    before = the_route(world)["spec"]["rules"][0]["backendRefs"]
    assert len(before) == 2
    moved_back = world.now()
    assert isinstance(world.drive("roll_back", upgrade), Done)
    assert the_route(world)["spec"]["rules"][0]["backendRefs"] == [{"name": "chat-api", "port": 80}]
    assert selected(world) == stable
    assert selected(world, BESIDE) is None
    assert world.now() - moved_back >= upgrade.spec.timing.drain_seconds, "open streams were cut"


def test_without_requests_nothing_is_switched(world, upgrade, users):
    stable = selected(world)
    drive_to(world, upgrade, "switch_service")
    users.per_second = 0.0
    verdict = world.drive("switch_service", upgrade)

    assert isinstance(verdict, Fail)
    assert "no request has reached it" in verdict.cause
    assert f"{STEPS[0]} % of the requests on the candidate, 0 of {SHIFT['step_pairs']} judged" in verdict.cause
    assert selected(world) == stable


def test_metrics_that_cannot_be_read_stop_the_steps_and_blame_nobody(world, upgrade, users):
    drive_to(world, upgrade, "switch_service")
    answer = world.server.get

    def get(endpoint, path):
        if path == "/metrics":
            raise Transient("connection refused")
        return answer(endpoint, path)

    world.server.get = get
    verdict = world.drive("switch_service", upgrade)

    assert isinstance(verdict, Fail)
    assert "metrics cannot be read" in verdict.cause
    assert users.shares == [0, STEPS[0]]


def test_a_rerun_goes_on_at_the_share_and_with_the_pots_of_before(world, upgrade, run_of, users, advance):
    candidate = drive_to(world, upgrade, "switch_service")
    while users.shares[-1:] != [STEPS[1]]:
        advance("switch_service", upgrade)
        world.tick()
    journal = world.cluster.get(kinds.CONFIG_MAP, "default", "llm-rollout-chat.shift")

    again = run_of("v2", {"shift": SHIFT}, attempt=2)
    assert isinstance(world.drive("switch_service", again), Done)

    assert users.shares == [0, *STEPS, 0]
    assert selected(world) == candidate
    assert journal is not None


def test_a_share_that_a_person_set_is_judged_as_a_step_of_its_own(world, upgrade, spec, users, advance):
    drive_to(world, upgrade, "switch_service")
    while users.shares[-1:] != [STEPS[0]]:
        advance("switch_service", upgrade)
        world.tick()
    world.cluster.replace(http_route.with_share(the_route(world), spec, 40))

    assert isinstance(world.drive("switch_service", upgrade), Done)
    assert users.shares == [0, STEPS[0], 40, 50, 0]


def test_what_an_earlier_run_left_in_the_route_is_taken_out_first(world, upgrade, spec, users):
    candidate = drive_to(world, upgrade, "switch_service")
    left = http_route.with_share(the_route(world), spec, 25)
    world.cluster.replace(left)
    service = world.cluster.get(kinds.SERVICE, "default", "chat-api")
    metadata = {"name": BESIDE, "namespace": "default", "labels": service["metadata"]["labels"]}
    other = {**service["spec"], "selector": {**service["spec"]["selector"], names.REVISION_LABEL: "cccccccc"}}
    world.cluster.create({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": other})
    world.tick()
    users.shares.clear()

    assert isinstance(world.drive("switch_service", upgrade), Done)
    assert users.shares == [*((0,) if users.shares[0] == 0 else ()), *STEPS, 0]
    assert selected(world, BESIDE) == candidate


def test_a_service_of_somebody_else_under_the_candidate_s_name_is_not_touched(world, upgrade, users):
    drive_to(world, upgrade, "switch_service")
    metadata = {"name": BESIDE, "namespace": "default", "labels": {}}
    world.cluster.create(
        {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"selector": {"app": "x"}}}
    )
    verdict = world.drive("switch_service", upgrade)

    assert isinstance(verdict, Fail)
    assert f"Service {BESIDE} exists without our label" in verdict.cause
    assert users.shares == [0]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        pytest.param(lambda _found: None, "HTTPRoute default/chat does not exist", id="no route"),
        pytest.param(
            lambda found: {**found, "spec": {**found["spec"], "rules": []}},
            "no rule of it sends requests to Service chat-api", id="no rule",
        ),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("users")
def test_a_route_that_cannot_be_used_fails_the_plan(world, run_of, spoil, words):
    found = the_route(world)
    world.cluster.forget(found)
    if spoil(found):
        world.cluster.show(spoil(found))
        world.controllers.tick()
    verdict = world.drive("plan_rollout", run_of("v1", {"shift": SHIFT}))

    assert isinstance(verdict, Fail)
    assert words in verdict.cause
    assert "take shift out of the spec" in verdict.remedy


def test_a_gateway_that_has_not_seen_the_share_is_waited_for(world, upgrade, users, advance):
    drive_to(world, upgrade, "switch_service")
    world.controllers.accepts_routes = False
    for _ in range(3 * SHIFT["step_seconds"]):
        verdict = advance("switch_service", upgrade)
        world.tick()

    assert "Gateway gateway has not seen its latest change" in verdict.reason
    assert users.shares == [0, STEPS[0]]
    world.controllers.accepts_routes = True
    assert isinstance(world.drive("switch_service", upgrade), Done)


def test_a_window_is_a_part_of_a_step():
    def window(seconds):
        shift = RolloutSpec.model_validate({
            "name": "chat", "model": {"repo": "org/chat"}, "service": {"name": "chat-api"},
            "server": {"nodes_per_group": 1, "tensor_parallel": 8},
            "shift": {**SHIFT, "step_seconds": seconds, "deadline_seconds": 86400},
        }).shift  # fmt: skip
        return shift_judgement.window_seconds(shift)

    assert [window(seconds) for seconds in (1, 60, 3600)] == [1.0, 15.0, 30.0]


@pytest.mark.usefixtures("users")
def test_the_plan_asks_whether_the_route_may_be_changed(world, run_of):
    world.access.denied.add(("update", "httproutes"))
    verdict = world.drive("plan_rollout", run_of("v1", {"shift": SHIFT}))

    assert isinstance(verdict, Fail)
    assert "update httproutes (gateway.networking.k8s.io) in default" in verdict.cause


def test_a_run_without_a_shift_asks_for_no_route(world, run_of):
    rollout: Rollout = run_of("v1")

    assert isinstance(world.drive("plan_rollout", rollout), Done)
