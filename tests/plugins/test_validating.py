from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from airflow._shared.module_loading import import_string
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException, TaskDeferred

from llm_rollout import kinds, measurements
from llm_rollout.errors import Permanent, Transient
from llm_rollout.rollout import Rollout
from llm_rollout.spec import RolloutSpec
from llm_rollout.testing import Simulation
from llm_rollout.testing.controllers import Ending
from llm_rollout.verdict import Done, Wait
from rollout_airflow import job_tasks, validating
from rollout_airflow.validating import AwaitMeasurement, ValidateFabric

from .conftest import SPEC, context

REPORT = {"event": "report", "verdict": "PASS", "transport": "rdma", "sentence": "PASS: fit", "rows": [], "bad": []}


@pytest.fixture(autouse=True)
def specs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two specs in a folder of their own."""
    (tmp_path / "chat.yaml").write_text(yaml.safe_dump(SPEC))
    (tmp_path / "other.yaml").write_text(yaml.safe_dump({**SPEC, "name": "other", "service": {"name": "other-api"}}))
    monkeypatch.setenv("LLM_ROLLOUT_SPECS", str(tmp_path))
    monkeypatch.setattr(job_tasks, "FIRST_LOOK_SECONDS", 0.0)
    monkeypatch.setattr(job_tasks, "LOOK_EVERY_SECONDS", 0.01)
    return tmp_path


@pytest.fixture
def world(world: Simulation) -> Simulation:
    """Its clock is the task's."""
    world.now.moment = time.time()
    world.controllers.job_ends["validate_rdma"] = Ending(dict(REPORT))
    return world


def task() -> ValidateFabric:
    return ValidateFabric(task_id="measure__chat", spec=SPEC)


def deferred() -> TaskDeferred:
    with pytest.raises(TaskDeferred) as raised:
        task().execute(context())
    return raised.value


def resumed(world: Simulation, until: float) -> Any:
    for _ in range(4):
        world.tick()
    return task().resume(context(), {"until": until})


def test_it_starts_the_job_defers_and_ends_with_a_summary(world: Simulation):
    waits = deferred()

    assert resumed(world, waits.trigger.until)["summary"].endswith("PASS: fit")
    assert [one.verdict for one in measurements.load(world.cluster, "default", "chat")] == ["PASS"]


def test_an_unfit_fabric_is_red_and_the_last_line_is_the_remedy(world: Simulation):
    node = {"kind": "node", "name": "node-2", "detail": "mlx5_0: 40 Gb/s"}
    world.controllers.job_ends["validate_rdma"] = Ending(
        {**REPORT, "verdict": "FAIL", "sentence": "FAIL", "bad": [node]}
    )
    waits = deferred()

    with pytest.raises(AirflowFailException) as red:
        resumed(world, waits.trigger.until)
    assert str(red.value).splitlines()[-1].startswith("remedy: node node-2: ")


def test_a_rollout_goes_first(world: Simulation):
    world.drive("plan_rollout", Rollout(RolloutSpec.model_validate(SPEC), "run", "run/1", "v1"))

    with pytest.raises(AirflowSkipException, match="run run rolls chat out"):
        task().execute(context())
    assert world.objects(kinds.JOB) == []


def test_the_nodes_of_another_models_rollout_are_left_alone(world: Simulation):
    other = RolloutSpec.model_validate({**SPEC, "name": "other", "service": {"name": "other-api"}})
    world.drive("plan_rollout", Rollout(other, "run", "run/1", "v1"))
    deferred()

    [job] = world.objects(kinds.JOB)
    assert job["spec"]["completions"] == 3


@pytest.mark.parametrize(("error", "red"), [(Transient("no answer"), False), (Permanent("not allowed"), True)])
@pytest.mark.usefixtures("world")
def test_only_what_another_try_can_help_is_tried_again(monkeypatch: pytest.MonkeyPatch, error: Exception, red: bool):  # noqa: FBT001
    def dead(*_: object) -> None:
        raise error

    monkeypatch.setattr(validating.idle_fabric, "advance", dead)
    with pytest.raises(AirflowException, match=str(error)) as failed:
        task().execute(context())
    assert isinstance(failed.value, AirflowFailException) == red


@pytest.mark.usefixtures("world")
def test_past_its_deadline_it_says_what_it_waited_for():
    deferred()
    with pytest.raises(AirflowFailException, match="not done in time, and still: Job chat-fabric-"):
        task().resume(context(), {"until": time.time() - 1})


def event_of(trigger: AwaitMeasurement) -> dict[str, Any]:
    async def first() -> Any:
        return await anext(trigger.run())

    return dict(asyncio.run(asyncio.wait_for(first(), 10)).payload)


@pytest.mark.usefixtures("world")
def test_the_trigger_survives_the_database():
    path, asked = deferred().trigger.serialize()
    assert import_string(path)(**asked).serialize() == (path, asked)


@pytest.mark.parametrize(
    "answers",
    [
        pytest.param([Wait("runs"), Wait("runs", {"done": 1}), Done("over")], id="until it is over"),
        pytest.param([Transient("no answer"), Done("over")], id="it outlives a failure to look"),
        pytest.param([Permanent("not allowed")], id="the task meets the same refusal"),
    ],
)
@pytest.mark.usefixtures("world")
def test_the_trigger_looks_until_there_is_something_to_do(monkeypatch: Any, answers: list[Any]):
    trigger = deferred().trigger

    def look(*_: object) -> object:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(validating.idle_fabric, "look", look)
    assert event_of(trigger) == {"until": trigger.until}
    assert answers == []


@pytest.mark.usefixtures("world")
def test_the_trigger_ends_at_its_deadline():
    path, asked = deferred().trigger.serialize()
    until = time.time() + 0.1
    assert event_of(import_string(path)(**{**asked, "until": until})) == {"until": until}
    assert time.time() >= until
