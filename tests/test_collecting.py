from __future__ import annotations

import pytest

from llm_rollout import collecting, kinds, record
from llm_rollout.collecting import Asked
from llm_rollout.errors import Permanent
from llm_rollout.manifests.collect_job import Rules
from llm_rollout.record import Record, Revision
from llm_rollout.spec import RolloutSpec
from llm_rollout.testing import Simulation
from llm_rollout.testing.controllers import Ending
from llm_rollout.verdict import Done, Fail, Wait

A, B, C = (letter * 40 for letter in "abc")
SPEC = RolloutSpec.model_validate({
    "name": "chat",
    "model": {"repo": "org/chat"},
    "server": {"nodes_per_group": 3, "tensor_parallel": 8, "pipeline_parallel": 3},
    "service": {"name": "chat-api"},
})  # fmt: skip
REPORT = {
    "event": "report", "dry_run": False, "commits_removed": [f"org/chat@{B}"], "commits_kept": 2, "roots_absent": [],
    "blobs_removed": 3, "partials_removed": 0, "bytes_freed": 700, "bytes_kept": 900, "seconds": 1.5,
}  # fmt: skip


@pytest.fixture
def world() -> Simulation:
    """A serves."""
    simulation = Simulation("chat", {})
    simulation.controllers.job_ends["collect_garbage"] = Ending(dict(REPORT))
    current = Revision(revision_id="abcdefgh", commit=A, lws="chat-abcdefgh", manifests=())
    record.update(simulation.cluster, "default", "chat", lambda _found: Record(name="chat", current=current))
    return simulation


def asked(*, dry_run=False, run_id="run", attempt=1):
    return Asked(SPEC, (SPEC,), Rules(2, 86400, dry_run), run_id, f"{run_id}/{attempt}")


def drive(world, task):
    for _ in range(20):
        verdict = collecting.advance(task, world.ports, world.now)
        if not isinstance(verdict, Wait):
            return verdict
        world.tick()
    pytest.fail(f"still {verdict}")


def job_of(world, task):
    return world.cluster.get(kinds.JOB, "default", task.job_name)


def test_the_job_is_started_with_what_is_in_use_and_its_report_is_told(world):
    verdict = drive(world, asked())
    assert isinstance(verdict, Done)
    assert verdict.summary == "store model-store: 1 commits and 700 bytes removed, 2 commits and 900 bytes kept"
    command = job_of(world, asked())["spec"]["template"]["spec"]["containers"][0]["command"]
    assert [word for word in command if word.startswith("--root")] == [f"--root=org/chat@{A}"]


def test_a_dry_run_only_looks(world):
    verdict = drive(world, asked(dry_run=True))
    assert isinstance(verdict, Done)
    assert "would be removed" in verdict.summary
    assert job_of(world, asked()) is None


def test_what_is_in_use_may_change_while_the_job_runs(world):
    collecting.advance(asked(), world.ports, world.now)
    started = job_of(world, asked())["metadata"]["uid"]
    record.update(world.cluster, "default", "chat", lambda _found: Record(name="chat"))
    assert isinstance(drive(world, asked()), Done)
    assert job_of(world, asked())["metadata"]["uid"] == started


def test_the_same_run_adopts_its_job_and_another_runs_one_is_replaced(world):
    drive(world, asked())
    first = job_of(world, asked())["metadata"]["uid"]
    assert isinstance(drive(world, asked(attempt=2)), Done)
    assert job_of(world, asked())["metadata"]["uid"] == first
    assert isinstance(drive(world, asked(run_id="next")), Done)
    assert job_of(world, asked())["metadata"]["uid"] != first


def test_a_job_that_failed_is_told_with_its_remedy_and_the_next_try_replaces_it(world):
    failure = {"event": "error", "class": "Permanent", "message": "no manifest in x", "remedy": "stage x"}
    world.controllers.job_ends["collect_garbage"] = Ending(failure, succeeded=False)
    verdict = drive(world, asked())
    assert isinstance(verdict, Fail)
    assert ("no manifest in x" in verdict.cause, verdict.remedy) == (True, "stage x")
    world.controllers.job_ends["collect_garbage"] = Ending(dict(REPORT))
    assert isinstance(drive(world, asked(attempt=2)), Done)


def test_a_job_without_a_report_is_a_failure(world):
    world.controllers.job_ends["collect_garbage"] = Ending({"event": "progress"})
    verdict = drive(world, asked())
    assert isinstance(verdict, Fail)
    assert "without a report" in verdict.cause


def test_where_use_cannot_be_told_nothing_is_written(world):
    world.access.unserved.add("LeaderWorkerSet")
    before = len(world.cluster.writes)
    with pytest.raises(Permanent):
        collecting.advance(asked(), world.ports, world.now)
    assert world.cluster.writes[before:] == []
