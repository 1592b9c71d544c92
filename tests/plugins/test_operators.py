from __future__ import annotations

import logging
import time
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import (
    AirflowException,
    AirflowFailException,
    AirflowSkipException,
    TaskDeferred,
)

from llm_rollout import record
from llm_rollout.errors import Permanent, Transient
from llm_rollout.testing import Simulation
from rollout_airflow import connection, operators
from rollout_airflow.operators import RollBack, RolloutStep

from .conftest import SPEC, context


def step(name: str, **options: Any) -> RolloutStep:
    return RolloutStep(task_id=name, spec=SPEC, **options)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operators, "PATIENCE_SECONDS", 0.0)


@pytest.fixture
def living(world: Simulation, monkeypatch: pytest.MonkeyPatch) -> Simulation:
    """The simulated clock moves when a task sleeps."""
    monkeypatch.setattr(operators, "PATIENCE_SECONDS", 30.0)
    moment = time.time()
    world.now.moment = moment
    monkeypatch.setattr(time, "sleep", world.tick)
    monkeypatch.setattr(time, "time", lambda: world.now.moment)
    return world


def test_done_ends_the_task_with_a_summary(world: Simulation):
    result = step("plan_rollout").execute(context())
    found = record.load(world.cluster, "default", "chat").run("run-1")
    assert found is not None
    assert result == {"summary": found.step("plan_rollout").summary}


@pytest.mark.usefixtures("world")
def test_wait_defers_with_an_absolute_deadline_and_a_backstop():
    step("plan_rollout").execute(context())
    with pytest.raises(TaskDeferred) as deferred:
        step("stage_weights").execute(context())
    _, asked = deferred.value.trigger.serialize()
    budget = asked["until"] - time.time()
    assert 0 < budget <= 4 * 3600 + 1000
    assert deferred.value.timeout.total_seconds() == pytest.approx(budget + 60, abs=2)
    assert deferred.value.method_name == "resume"


def test_a_wait_that_is_over_soon_is_not_deferred(living: Simulation):
    step("plan_rollout").execute(context())
    step("stage_weights").execute(context())
    found = record.load(living.cluster, "default", "chat").run("run-1")
    assert found is not None
    assert found.ended_well("stage_weights")


def test_fail_is_red_without_a_retry_and_ends_with_cause_and_remedy(world: Simulation, caplog: Any):
    world.access.denied.add(("create", "jobs"))
    with caplog.at_level(logging.ERROR), pytest.raises(AirflowFailException) as failed:
        step("plan_rollout").execute(context())
    assert "jobs" in str(failed.value)
    assert "remedy:" in str(failed.value)


@pytest.mark.usefixtures("world")
def test_an_api_server_that_does_not_answer_is_tried_again(monkeypatch: pytest.MonkeyPatch):
    def dead(*_: object) -> None:
        raise Transient("connection refused; Authorization: Bearer abcdefghijklmnop")

    monkeypatch.setattr(operators.runner, "advance", dead)
    with pytest.raises(AirflowException) as failed:
        step("plan_rollout").execute(context())
    assert not isinstance(failed.value, AirflowFailException)
    assert "plan_rollout could not go on" in str(failed.value)
    assert "abcdefghijklmnop" not in str(failed.value)


def test_a_missing_connection_is_not_tried_again(monkeypatch: pytest.MonkeyPatch):
    def missing() -> None:
        raise Permanent("there is no connection kubernetes_default")

    monkeypatch.setattr(connection, "ports", missing)
    with pytest.raises(AirflowFailException, match="kubernetes_default"):
        step("plan_rollout").execute(context())


def test_a_dry_run_plans_and_skips_the_rest(world: Simulation):
    before = len(world.cluster.writes)
    assert step("plan_rollout").execute(context(dry_run=True))["summary"]
    with pytest.raises(AirflowSkipException, match="dry run"):
        step("stage_weights").execute(context(dry_run=True))
    assert world.cluster.writes[before:] == []


def test_the_runs_parameter_names_the_revision(world: Simulation):
    step("plan_rollout").execute(context(revision="v2"))
    assert world.hub.asked[-1] == "v2"


def test_after_the_deadline_the_task_says_what_it_waited_for(world: Simulation):
    step("plan_rollout").execute(context())
    with pytest.raises(TaskDeferred):
        step("stage_weights").execute(context())
    event = {"changed": False, "deadline": True, "waited_seconds": 14400.0, "until": time.time()}
    with pytest.raises(AirflowFailException, match="still"):
        step("stage_weights").resume(context(), event)
    found = record.load(world.cluster, "default", "chat").run("run-1")
    assert found is not None
    assert found.step("stage_weights").verdict == "fail"


class Ran:
    """The task instance of a roll back, which can ask how the others ended."""

    def __init__(self, **states: str) -> None:
        self.states, self.dag_id, self.try_number = states, "roll_out__chat", 1

    def get_task_states(self, dag_id: str, task_ids: list[str], run_ids: list[str]) -> dict[str, Any]:
        assert dag_id == self.dag_id
        return {run_ids[0]: {name: state for name, state in self.states.items() if name in task_ids}}


def roll_back_after(**states: str) -> Any:
    task = RollBack(task_id="roll_back", spec=SPEC)
    task.upstream_task_ids |= set(states)
    return task.execute({**context(), "ti": Ran(**states), "dag_run": SimpleNamespace(run_id="run-1")})


def test_roll_back_is_skipped_when_every_step_succeeded(world: Simulation):
    with pytest.raises(AirflowSkipException, match="nothing to roll back"):
        roll_back_after(plan_rollout="success", stage_weights="success")
    assert world.cluster.writes == []


@pytest.mark.parametrize("state", ["failed", "upstream_failed", "skipped"])
def test_roll_back_acts_when_one_step_did_not(world: Simulation, state: str):
    step("plan_rollout").execute(context())
    assert "summary" in roll_back_after(plan_rollout="success", stage_weights=state)
    found = record.load(world.cluster, "default", "chat").run("run-1")
    assert found is not None
    assert found.ended_well("roll_back")
