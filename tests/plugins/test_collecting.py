from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from airflow._shared.module_loading import import_string
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException, TaskDeferred

from llm_rollout import kinds
from llm_rollout.errors import Permanent, Transient
from llm_rollout.testing import Simulation
from llm_rollout.testing.controllers import Ending
from llm_rollout.verdict import Done, Wait
from rollout_airflow import collecting, job_tasks
from rollout_airflow.collecting import AwaitCollection, CollectGarbage

from .conftest import SPEC, context

PARAMS = {"dry_run": False, "keep": 2, "grace_hours": 0.5}
REPORT = {
    "event": "report", "dry_run": False, "commits_removed": [], "commits_kept": 2, "roots_absent": [],
    "blobs_removed": 0, "partials_removed": 0, "bytes_freed": 0, "bytes_kept": 900, "seconds": 1.5,
}  # fmt: skip


@pytest.fixture(autouse=True)
def specs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One spec in a folder of its own."""
    (tmp_path / "chat.yaml").write_text(yaml.safe_dump(SPEC))
    monkeypatch.setenv("LLM_ROLLOUT_SPECS", str(tmp_path))
    monkeypatch.setattr(job_tasks, "FIRST_LOOK_SECONDS", 0.0)
    monkeypatch.setattr(job_tasks, "LOOK_EVERY_SECONDS", 0.01)
    return tmp_path


def task(*, looks_only: bool = False) -> CollectGarbage:
    return CollectGarbage(task_id="remove", spec=SPEC, looks_only=looks_only)


def run(*, looks_only: bool = False, **params: object) -> Any:
    return task(looks_only=looks_only).execute(context(**{**PARAMS, **params}))


def deferred(world: Simulation, **params: Any) -> TaskDeferred:
    world.controllers.job_ends["collect_garbage"] = Ending(dict(REPORT))
    with pytest.raises(TaskDeferred) as raised:
        run(**params)
    return raised.value


def test_it_starts_the_job_defers_and_ends_with_a_summary(world: Simulation):
    waits = deferred(world)
    [job] = world.objects(kinds.JOB)
    assert "--grace=1800" in job["spec"]["template"]["spec"]["containers"][0]["command"]
    for _ in range(4):
        world.tick()
    event = {"until": waits.trigger.until}
    assert task().resume(context(**PARAMS), event)["summary"].startswith("store model-store: 0 commits")


def test_a_dry_run_looks_and_skips_the_rest(world: Simulation):
    deferred(world, looks_only=True, dry_run=True)
    [job] = world.objects(kinds.JOB)
    assert "--dry-run" in job["spec"]["template"]["spec"]["containers"][0]["command"]
    with pytest.raises(AirflowSkipException, match="dry run"):
        run(dry_run=True)


def test_a_spec_that_cannot_be_read_stops_it_and_is_named(world: Simulation, specs: Path):
    (specs / "broken.yaml").write_text("name: broken\ngroups: -1\n")
    with pytest.raises(AirflowFailException, match=r"(?s)nothing was removed.*broken\.yaml.*groups"):
        run()
    assert world.objects(kinds.JOB) == []


def test_use_that_cannot_be_told_stops_it_without_another_try(world: Simulation):
    world.access.unserved.add("LeaderWorkerSet")
    with pytest.raises(AirflowFailException, match="nothing was removed: the API server knows no LeaderWorkerSet"):
        run()
    assert world.objects(kinds.JOB) == []


@pytest.mark.usefixtures("world")
def test_an_api_server_that_does_not_answer_is_tried_again(monkeypatch: pytest.MonkeyPatch):
    def dead(*_: object) -> None:
        raise Transient("connection refused")

    monkeypatch.setattr(collecting.collecting, "advance", dead)
    with pytest.raises(AirflowException) as failed:
        run()
    assert not isinstance(failed.value, AirflowFailException)


def test_a_failed_job_is_red_with_its_remedy(world: Simulation):
    deferred(world)
    error = {"event": "error", "class": "Permanent", "message": "no manifest in x", "remedy": "stage x"}
    world.controllers.job_ends["collect_garbage"] = Ending(error, succeeded=False)
    for _ in range(4):
        world.tick()
    with pytest.raises(AirflowFailException, match=r"(?s)no manifest in x.*remedy: stage x"):
        task().resume(context(**PARAMS), {"until": time.time() + 60})


def test_past_its_deadline_it_says_what_it_waited_for(world: Simulation):
    deferred(world)
    with pytest.raises(AirflowFailException, match="not done in time, and still: Job llm-rollout-collect-"):
        task().resume(context(**PARAMS), {"until": time.time() - 1})


def event_of(trigger: AwaitCollection) -> dict[str, Any]:
    async def first() -> Any:
        return await anext(trigger.run())

    return dict(asyncio.run(asyncio.wait_for(first(), 10)).payload)


def test_the_trigger_survives_the_database(world: Simulation):
    path, asked = deferred(world).trigger.serialize()
    assert import_string(path)(**asked).serialize() == (path, asked)


@pytest.mark.parametrize(
    "answers",
    [
        pytest.param([Wait("runs"), Wait("runs", {"bytes_freed": 1}), Done("over")], id="until it is over"),
        pytest.param([Transient("no answer"), Done("over")], id="it outlives a failure to look"),
        pytest.param([Permanent("not allowed")], id="the task meets the same refusal"),
    ],
)
def test_the_trigger_looks_until_there_is_something_to_do(world: Simulation, monkeypatch: Any, answers: list[Any]):
    trigger = deferred(world).trigger

    def look(*_: object) -> object:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(collecting.collecting, "look", look)
    assert event_of(trigger) == {"until": trigger.until}
    assert answers == []


def test_the_trigger_ends_at_its_deadline(world: Simulation):
    path, asked = deferred(world).trigger.serialize()
    until = time.time() + 0.1
    assert event_of(import_string(path)(**{**asked, "until": until})) == {"until": until}
    assert time.time() >= until
