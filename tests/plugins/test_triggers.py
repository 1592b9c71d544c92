from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import pytest
from airflow._shared.module_loading import import_string
from airflow.sdk.exceptions import TaskDeferred

from llm_rollout import kinds, names, record, results, runner
from llm_rollout.adapters import feed
from llm_rollout.adapters.watch_stream import Change, Snapshot
from llm_rollout.adapters.watching import Watching
from llm_rollout.errors import Permanent, Transient
from llm_rollout.ports import Kind
from llm_rollout.testing import Simulation
from llm_rollout.verdict import Done, Verdict, Wait
from rollout_airflow import connection, operators, triggers, watches
from rollout_airflow.operators import RolloutStep
from rollout_airflow.triggers import AwaitStep

from .conftest import SPEC, context


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operators, "PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr(triggers, "FIRST_LOOK_SECONDS", 0.0)
    monkeypatch.setattr(triggers, "LOOK_AT_MOST_EVERY_SECONDS", 0.01)
    monkeypatch.setattr(watches, "LOOK_AT_LEAST_EVERY_SECONDS", 0.01)


class Followed:
    """Lists and watches of the cluster in memory."""

    def __init__(self, world: Simulation) -> None:
        self.world = world
        self.lists: list[Kind] = []
        self.over = threading.Event()

    def snapshot(self, kind: Kind, namespace: str) -> Snapshot:
        self.lists.append(kind)
        return Snapshot(tuple(self.world.cluster.list(kind, namespace)), "listed")

    @contextmanager
    def changes(self, kind: Kind, namespace: str, _: str) -> Iterator[Iterator[Change]]:
        yield self._changes(kind, namespace)

    def _changes(self, kind: Kind, namespace: str) -> Iterator[Change]:
        known: dict[str, Any] = {}
        while not self.over.wait(0.005):
            now = {one["metadata"]["name"]: one for one in self.world.cluster.list(kind, namespace)}
            for name, one in now.items():
                if known.get(name) != one:
                    yield Change(one["metadata"]["resourceVersion"], one)
            for name in known.keys() - now.keys():
                yield Change("gone", known[name], is_gone=True)
            known = now
            yield Change("bookmark")


@pytest.fixture(autouse=True)
def followed(world: Simulation, monkeypatch: pytest.MonkeyPatch) -> Iterator[Followed]:
    """The cluster in memory as the triggers of this process reach it."""
    source = Followed(world)
    reached = watches.Reach(world.ports, Watching(world.cluster, source))

    async def reach() -> watches.Reach:
        return reached

    monkeypatch.setattr(watches, "reach", reach)
    yield source
    monkeypatch.setattr(feed, "IDLE_SECONDS", -1.0)
    source.over.set()
    for thread in threading.enumerate():
        if thread.name.startswith("watch-"):
            thread.join(10)


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


def test_it_fires_when_the_step_has_something_to_do(monkeypatch: pytest.MonkeyPatch):
    left = answers(monkeypatch, Wait("pulling"), Wait("loading"), Done("there"))
    event = event_of(waiting())
    assert (event["changed"], event["deadline"]) == (True, False)
    assert len(left) == 1


def test_it_fires_at_the_deadline_and_says_so(monkeypatch: pytest.MonkeyPatch):
    answers(monkeypatch, Wait("loading"))
    event = event_of(waiting(seconds=0.1))
    assert (event["changed"], event["deadline"]) == (False, True)
    assert event["waited_seconds"] >= 0.1


def test_it_outlives_an_api_server_that_does_not_answer(monkeypatch: pytest.MonkeyPatch):
    left = answers(monkeypatch, Transient("refused"), Transient("refused"), Done("there"))
    assert event_of(waiting())["changed"] is True
    assert len(left) == 1


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
    rollout = waiting().rollout
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
    rollout = waiting().rollout
    results.write("stage_weights", rollout, world.ports, Done("there"), results.Times(1.0, 2.0, 0.0))
    runner.note("stage_weights", rollout, world.ports, time.time, Wait("7 of 9 GB"))
    assert recorded(world) == ("done", "there")


def test_a_run_that_lost_the_lease_notes_nothing(world: Simulation):
    rolling_out(world)
    before = recorded(world)
    runner.note("stage_weights", waiting().rollout, world.ports, lambda: time.time() + 1e9, Wait("7 of 9 GB"))
    assert recorded(world) == before


def test_notes_are_rare(world: Simulation, monkeypatch: pytest.MonkeyPatch):
    rolling_out(world)
    answers(monkeypatch, *(Wait(f"{number} of 9 GB") for number in range(9)), Done("there"))
    before = recorded(world)
    event_of(waiting())
    assert recorded(world) == before


def job_of(model: str) -> dict[str, Any]:
    labels = {names.MODEL_LABEL: model}
    metadata = {"name": f"{model}-stage-abcdefgh", "namespace": "default", "labels": labels}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": {}, "status": {}}


async def until(check: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not check():  # noqa: ASYNC110 - what is waited for happens in other threads
            await asyncio.sleep(0.01)


def looking_at_the_job(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Have the step wait for a Job of the model; the answer is when it was looked for."""
    looks: list[float] = []

    def look(_step: str, _rollout: object, ports: Any, _now: object) -> Verdict:
        looks.append(time.monotonic())
        return Done("there") if ports.cluster.get(kinds.JOB, "default", "chat-stage-abcdefgh") else Wait("no Job")

    monkeypatch.setattr(triggers.runner, "look", look)
    return looks


def test_it_looks_when_something_of_its_model_has_changed(world: Simulation, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(watches, "LOOK_AT_LEAST_EVERY_SECONDS", 60.0)
    looks = looking_at_the_job(monkeypatch)

    async def play() -> dict[str, Any]:
        found = asyncio.ensure_future(anext(waiting().run()))
        await until(lambda: looks)
        world.cluster.create(job_of("another"))
        await asyncio.sleep(0.3)
        assert len(looks) == 1
        world.cluster.create(job_of("chat"))
        return dict((await asyncio.wait_for(found, 10)).payload)

    assert asyncio.run(play())["changed"] is True
    assert len(looks) == 2


def test_it_looks_unasked_now_and_then(monkeypatch: pytest.MonkeyPatch):
    left = answers(monkeypatch, Wait("1 s"), Wait("2 s"), Wait("3 s"), Done("patience is over"))
    assert event_of(waiting())["changed"] is True
    assert len(left) == 1


def test_however_much_changes_it_looks_only_so_often(world: Simulation, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(watches, "LOOK_AT_LEAST_EVERY_SECONDS", 60.0)
    monkeypatch.setattr(triggers, "LOOK_AT_MOST_EVERY_SECONDS", 0.2)
    looks: list[float] = []

    def look(_step: str, _rollout: object, ports: Any, _now: object) -> Verdict:
        looks.append(time.monotonic())
        job = ports.cluster.get(kinds.JOB, "default", "chat-stage-abcdefgh")
        return Done("enough") if job and job["status"].get("active", 0) >= 60 else Wait("more to come")

    monkeypatch.setattr(triggers.runner, "look", look)
    job = world.cluster.create(job_of("chat"))

    async def play() -> None:
        found = asyncio.ensure_future(anext(waiting().run()))
        for number in range(61):
            world.cluster.show({**job, "status": {"active": number}})
            await asyncio.sleep(0.01)
        await asyncio.wait_for(found, 10)

    asyncio.run(play())
    gaps = [after - before for before, after in pairwise(looks)]
    assert 2 <= len(looks) < 20
    assert min(gaps) >= 0.2


def test_all_waits_of_a_process_share_one_list(world: Simulation, followed: Followed, monkeypatch: pytest.MonkeyPatch):
    looking_at_the_job(monkeypatch)
    world.cluster.create(job_of("chat"))

    async def play() -> list[Any]:
        return await asyncio.gather(*(anext(waiting().run()) for _ in range(50)))

    assert len(asyncio.run(play())) == 50
    assert followed.lists == [kinds.JOB]


def test_a_wait_that_is_called_off_is_woken_no_more(monkeypatch: pytest.MonkeyPatch):
    answers(monkeypatch, Wait("loading"))

    async def play() -> int:
        task = asyncio.ensure_future(anext(waiting().run()))
        await until(lambda: watches._attending)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return len((await watches.reach()).watching._readers)

    assert asyncio.run(play()) == 0
    assert not watches._attending


@pytest.mark.parametrize(("waits", "seconds"), [(1, 5.0), (250, 5.0), (1000, 20.0)])
def test_many_waits_together_look_unasked_only_so_often(monkeypatch: pytest.MonkeyPatch, waits: int, seconds: float):
    monkeypatch.setattr(watches, "LOOK_AT_LEAST_EVERY_SECONDS", 5.0)
    assert watches.unasked_after_seconds(waits) == seconds


def test_new_credentials_in_the_file_make_a_new_client(tmp_path: Any):
    path = tmp_path / "kubeconfig"
    path.write_text("one")
    before = watches._key({"kube_config_path": str(path)})
    assert watches._key({"kube_config_path": str(path)}) == before
    path.write_text("two")
    os.utime(path, (0, 0))
    assert watches._key({"kube_config_path": str(path)}) != before


def test_without_a_connection_the_task_says_it(monkeypatch: pytest.MonkeyPatch):
    async def nowhere() -> watches.Reach:
        raise Permanent(f"there is no connection {connection.CONNECTION_ID}")

    monkeypatch.setattr(watches, "reach", nowhere)
    assert event_of(waiting())["changed"] is True
