"""Where stable listens, as the plan has it. What else a plan holds is told by the whole rollouts."""

import pytest

from llm_rollout import kinds, record
from llm_rollout.steps import PIPELINE

OTHER_PORT = {"server": {"port": 9000}}


@pytest.fixture
def finish(world):
    """Roll a run out: to its end, or up to a step."""

    def roll(run, until=None):
        steps = (*PIPELINE, "conclude")
        for step in steps[: steps.index(until)] if until else steps:
            world.drive(step, run)

    return roll


@pytest.fixture
def plan_of(world):
    return lambda run: record.load(world.cluster, "default", "chat").run(run.run_id).plan


def test_a_first_deployment_has_no_port_of_stable(run_of, finish, plan_of):
    finish(run_of("v1"), until="stage_weights")

    assert plan_of(run_of("v1")).stable_port is None


def test_the_port_of_stable_is_read_where_it_serves_and_not_in_the_new_spec(run_of, finish, plan_of):
    finish(run_of("v1"))
    finish(run_of("v2", OTHER_PORT), until="stage_weights")

    assert plan_of(run_of("v2")).stable_port == 8000
    assert plan_of(run_of("v2")).spec.server.port == 9000


def test_a_plan_made_again_is_the_same_although_stable_is_gone(world, run_of, finish, plan_of):
    finish(run_of("v1"))
    finish(run_of("v2", OTHER_PORT), until="conclude")
    before = plan_of(run_of("v2"))

    world.drive("plan_rollout", run_of("v2", OTHER_PORT, attempt=2))

    assert plan_of(run_of("v2")) == before
    assert before.stable_port == 8000


@pytest.mark.parametrize("ports", [[], [{"name": "metrics", "containerPort": 9090}]], ids=["no port", "another port"])
def test_a_stable_revision_that_names_no_port_leaves_it_open(world, run_of, finish, plan_of, ports):
    finish(run_of("v1"))
    (serving,) = world.objects(kinds.LEADER_WORKER_SET)
    template = serving["spec"]["leaderWorkerTemplate"]["leaderTemplate"]
    template["spec"]["containers"][0]["ports"] = ports
    world.cluster.replace(serving)

    finish(run_of("v2"), until="stage_weights")

    assert plan_of(run_of("v2")).stable_port is None
