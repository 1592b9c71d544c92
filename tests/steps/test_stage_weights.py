import pytest

from llm_rollout import clock, names
from llm_rollout.job_output import JobOutput
from llm_rollout.manifests.stage_job import stage_job
from llm_rollout.steps import stage_weights
from llm_rollout.steps.jobs import Create, Delete, JobSeen
from llm_rollout.verdict import Act, Done, Fail, Wait

NOW = 1_790_000_000.0
REPORT = {
    "commit": "1" * 40, "path": "/models/x", "files": 3, "bytes_total": 900, "bytes_fetched": 300, "bytes_reused": 600,
    "seconds": 4.2,
}  # fmt: skip


def job_of(rollout, *conditions, attempt="run/1", **metadata):
    manifest = stage_job(rollout.spec, rollout.planned.commit, attempt)
    status = {"conditions": [{"type": one, "status": "True", "reason": "R", "message": "m"} for one in conditions]}
    return {**manifest, "metadata": {**manifest["metadata"], "uid": "u", **metadata}, "status": status}


def test_without_a_job_one_is_started(rollout):
    verdict = stage_weights.decide(rollout, JobSeen(None), NOW)

    assert isinstance(verdict, Act)
    assert isinstance(verdict.plan, Create)
    assert verdict.plan.manifests == (stage_job(rollout.spec, "1" * 40, "run/1"),)


@pytest.mark.parametrize(
    ("conditions", "attempt", "output", "expected", "words"),
    [
        pytest.param((), "run/1", JobOutput(progress={"bytes_done": 5}), Wait, "runs", id="running"),
        pytest.param((), "other/9", JobOutput(), Wait, "runs", id="running for another run"),
        pytest.param(("Complete",), "run/1", JobOutput(report=REPORT), Done, "3 files, 900 bytes", id="succeeded"),
        pytest.param(("Complete",), "run/7", JobOutput(report=REPORT), Done, "3 files", id="succeeded in another try"),
        pytest.param(("Complete",), "run/1", JobOutput(), Done, "is staged", id="succeeded, its log is gone"),
        pytest.param(("Complete",), "other/9", JobOutput(report=REPORT), Act, "earlier run", id="of another run"),
        pytest.param(("Failed",), "run/0", JobOutput(), Act, "failed in an earlier try", id="failed in an earlier try"),
        pytest.param(
            ("Failed",), "run/1", JobOutput(error={"message": "401 for org/chat", "remedy": "set model.token_secret"}),
            Fail, "401 for org/chat", id="failed in this try",
        ),
        pytest.param(("Failed",), "run/1", JobOutput(), Fail, "R: m", id="failed without a word"),
    ],
)  # fmt: skip
def test_the_job_decides(rollout, conditions, attempt, output, expected, words):
    seen = JobSeen(job_of(rollout, *conditions, attempt=attempt), (), output, "pod-x")

    verdict = stage_weights.decide(rollout, seen, NOW)

    assert isinstance(verdict, expected)
    assert words in str(verdict)


def test_the_error_s_own_remedy_is_handed_on(rollout):
    output = JobOutput(error={"message": "401", "remedy": "set model.token_secret"})

    verdict = stage_weights.decide(rollout, JobSeen(job_of(rollout, "Failed"), (), output), NOW)

    assert verdict.remedy == "set model.token_secret"


def test_a_job_for_another_store_is_replaced_even_when_it_succeeded(rollout, make_rollout):
    job = job_of(make_rollout({"store": {"claim": "old-store"}}), "Complete")

    verdict = stage_weights.decide(rollout, JobSeen(job, (), JobOutput(report=REPORT)), NOW)

    assert isinstance(verdict.plan, Delete)


def test_a_job_that_is_being_deleted_is_waited_for(rollout):
    job = job_of(rollout, "Failed", deletionTimestamp="2026-11-24T10:00:00Z")

    assert isinstance(stage_weights.decide(rollout, JobSeen(job), NOW), Wait)


def test_progress_is_shown_while_it_runs(rollout):
    seen = JobSeen(job_of(rollout), (), JobOutput(progress={"bytes_done": 5}), "pod-x")

    assert stage_weights.decide(rollout, seen, NOW).progress["bytes_done"] == 5


@pytest.mark.parametrize(("age", "expected"), [(30, Wait), (90, Fail)], ids=["a hiccup", "too long"])
def test_an_image_that_cannot_be_pulled_is_named_before_the_deadline(rollout, age, expected):
    waiting = {"name": "job", "state": {"waiting": {"reason": "ErrImagePull", "message": "no such image"}}}
    pod = {
        "metadata": {"name": "p", "creationTimestamp": clock.rfc3339(NOW)},
        "status": {"containerStatuses": [waiting]},
    }

    verdict = stage_weights.decide(rollout, JobSeen(job_of(rollout), (pod,)), NOW + age)

    assert isinstance(verdict, expected)
    assert "no such image" in str(verdict)


def test_a_rerun_adopts_what_an_earlier_try_started(world, run_of, drive_before, advance):
    drive_before("stage_weights", run_of())
    advance("stage_weights", run_of())
    world.tick()

    advance("stage_weights", run_of(attempt=2))

    created = [what for what in world.cluster.writes if what.startswith("create Job")]
    assert created == [f"create Job {names.stage_job_name('chat', '1' * 40)}"]


@pytest.mark.parametrize(
    ("progress", "words"),
    [
        ({}, "runs"),
        (
            {"bytes_done": 412e9, "bytes_total": 812e9, "bytes_per_second": 1.9e9, "eta_seconds": 210.5},
            "runs: 412.0 of 812.0 GB (51 %), 1.90 GB/s, 4 min left",
        ),
        (
            {"bytes_done": 0, "bytes_total": 812e9, "bytes_per_second": 0, "eta_seconds": None},
            "runs: 0.0 of 812.0 GB (0 %), 0.00 GB/s",
        ),
        ({"waiting_for": "process 7 on node-2, which writes to this store"}, "runs: waits for process 7 on node-2"),
    ],
)
def test_while_it_runs_it_says_how_far_it_is(rollout, progress, words):
    verdict = stage_weights.decide(rollout, JobSeen(job_of(rollout), (), JobOutput(progress=progress), "pod-x"), NOW)

    assert isinstance(verdict, Wait)
    assert words in verdict.reason
    assert verdict.progress.items() >= progress.items()
