from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from airflow._shared.module_loading import import_string
from airflow.sdk.exceptions import TaskDeferred

from llm_rollout import record, results, runner
from llm_rollout.errors import Permanent, Transient
from llm_rollout.testing import Simulation
from llm_rollout.verdict import Done, Wait
from rollout_airflow import operators, triggers
from rollout_airflow.operators import RolloutStep
from rollout_airflow.triggers import AwaitStep

from .conftest import SPEC, context


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operators, "PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr(triggers, "FIRST_LOOK_SECONDS", 0.0)
    monkeypatch.setattr(triggers, "LOOK_EVERY_SECONDS", 0.01)


def waiting(seconds: float = 60.0) -> AwaitStep:
    now = time.time()
    return AwaitStep(
        step="stage_weights", spec=SPEC, run_id="run-1", attempt="run-1/1", revision="v1", dry_run=False,
        since=now, until=now + seconds,
    )  # fmt: skip


def event_of(trigger: AwaitStep) -> dict[str, Any]:
    async def first() -> Any:
        return await anext(trigger.run())

    return dict(asyncio.run(asyncio.wait_for(first(), 10)).payload)


def answers(monkeypatch: pytest.MonkeyPatch, *given: object) -> list[object]:
    """Have the looks answer one after the other, the last one for ever."""
    left = list(given)

    def look(*_: object) -> object:
        answer = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(triggers.runner, "look", look)
    return left


def test_a_trigger_survives_the_database():
    path, asked = waiting().serialize()
    again = import_string(path)(**asked)
    assert again.serialize() == (path, asked)


@pytest.mark.usefixtures("world")
def test_it_fires_when_the_step_has_something_to_do(monkeypatch: pytest.MonkeyPatch):
    left = answers(monkeypatch, Wait("pulling"), Wait("loading"), Done("there"))
    event = event_of(waiting())
    assert (event["changed"], event["deadline"]) == (True, False)
    assert len(left) == 1


@pytest.mark.usefixtures("world")
def test_it_fires_at_the_deadline_and_says_so(monkeypatch: pytest.MonkeyPatch):
    answers(monkeypatch, Wait("loading"))
    event = event_of(waiting(seconds=0.1))
    assert (event["changed"], event["deadline"]) == (False, True)
    assert event["waited_seconds"] >= 0.1


@pytest.mark.usefixtures("world")
def test_it_outlives_an_api_server_that_does_not_answer(monkeypatch: pytest.MonkeyPatch):
    left = answers(monkeypatch, Transient("refused"), Transient("refused"), Done("there"))
    assert event_of(waiting())["changed"] is True
    assert len(left) == 1


@pytest.mark.usefixtures("world")
def test_it_hands_a_permanent_error_to_the_task(monkeypatch: pytest.MonkeyPatch):
    answers(monkeypatch, Permanent("forbidden"))
    assert event_of(waiting())["changed"] is True


def test_it_only_reads_so_two_at_once_do_no_harm(world: Simulation):
    RolloutStep(task_id="plan_rollout", spec=SPEC).execute(context())
    with pytest.raises(TaskDeferred):
        RolloutStep(task_id="stage_weights", spec=SPEC).execute(context())
    before = list(world.cluster.writes)
    assert event_of(waiting(seconds=0.1))["deadline"] is True
    assert event_of(waiting(seconds=0.1))["deadline"] is True
    assert world.cluster.writes == before


def recorded(world: Simulation) -> tuple[str, str]:
    entry = record.load(world.cluster, "default", "chat").run("run-1")
    assert entry is not None
    step = entry.step("stage_weights")
    assert step is not None
    return step.verdict, step.summary


def rolling_out(world: Simulation) -> None:
    """A run that holds the lease and whose ``stage_weights`` waits."""
    rollout = waiting().rollout()
    for step in ("plan_rollout", "stage_weights"):
        runner.advance(step, rollout, world.ports, time.time)


def test_how_far_a_wait_is_stands_in_the_record(world: Simulation, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(triggers, "NOTE_EVERY_SECONDS", 0.0)
    rolling_out(world)
    answers(monkeypatch, Wait("5 of 9 GB"), Wait("7 of 9 GB"), Done("there"))
    event_of(waiting())
    assert recorded(world) == ("wait", "7 of 9 GB")


def test_a_step_that_has_ended_meanwhile_stays_as_it_ended(world: Simulation):
    rolling_out(world)
    rollout = waiting().rollout()
    results.write("stage_weights", rollout, world.ports, Done("there"), results.Times(1.0, 2.0, 0.0))
    runner.note("stage_weights", rollout, world.ports, time.time, Wait("7 of 9 GB"))
    assert recorded(world) == ("done", "there")


def test_a_run_that_lost_the_lease_notes_nothing(world: Simulation):
    rolling_out(world)
    before = recorded(world)
    runner.note("stage_weights", waiting().rollout(), world.ports, lambda: time.time() + 1e9, Wait("7 of 9 GB"))
    assert recorded(world) == before


def test_notes_are_rare(world: Simulation, monkeypatch: pytest.MonkeyPatch):
    rolling_out(world)
    answers(monkeypatch, *(Wait(f"{number} of 9 GB") for number in range(9)), Done("there"))
    before = recorded(world)
    event_of(waiting())
    assert recorded(world) == before
