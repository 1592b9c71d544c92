"""Groups that come up and then die: at the first question, or with live traffic on them."""

from pathlib import Path

import pytest

from llm_rollout import clock, kinds
from llm_rollout.ports import Reply
from llm_rollout.steps import PIPELINE, engine_death, group_state
from llm_rollout.verdict import Done, Fail, Wait

SAMPLE = Path(__file__).parents[1] / "coldstart/samples/vllm-0.32-cpu/pipeline-on-cpu"
"""The real vLLM with pipeline parallelism on CPUs: healthy, then dead at its first request."""
OOM = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB."


@pytest.fixture
def says(world):
    """What a pod prints from now on, each line a moment later than the one before."""

    def say(pod, text):
        lines = text.splitlines()
        stamped = [f"{clock.rfc3339(world.now() - 1 + index / len(lines))} {line}" for index, line in enumerate(lines)]
        world.controllers.logs[pod, False] = "\n".join(stamped) + "\n"

    return say


@pytest.fixture
def ready(run_of, drive_before, world):
    rollout = drive_before("smoke_test", run_of())
    world.tick(5)
    return rollout


def pods_of(world, rollout):
    return {
        pod["metadata"]["name"]: pod
        for pod in world.cluster.list(kinds.POD, "default")
        if "chat-" in pod["metadata"]["name"] and rollout.planned.lws in pod["metadata"]["name"]
    }


def end(world, pod, code=1):
    """A container that has ended; its group is not made anew yet."""
    state = {"terminated": {"exitCode": code, "reason": "Error", "finishedAt": clock.rfc3339(world.now())}}
    container = {"name": pod["spec"]["containers"][0]["name"], "restartCount": 0, "state": state}
    conditions = [one for one in pod["status"]["conditions"] if one["type"] != "Ready"]
    status = {"conditions": [*conditions, {"type": "Ready", "status": "False"}], "containerStatuses": [container]}
    world.cluster.show({**pod, "status": {**pod["status"], **status}})


def test_an_engine_that_dies_at_its_first_request_is_explained_by_the_rank_that_failed_first(
    world, ready, says, advance
):
    lws = ready.planned.lws
    for name in pods_of(world, ready):
        says(name, (SAMPLE / ("worker.log" if name.startswith(f"{lws}-0-") else "leader.log")).read_text())
    world.server.broken["/v1/completions"] = Reply(500, "EngineDeadError")

    verdict = advance("smoke_test", ready)

    assert isinstance(verdict, Fail)
    assert f"ENGINE_BUG on pod {lws}-0-" in verdict.cause
    assert "AssertionError" in verdict.cause
    assert any(path.endswith(".log") and f"{lws}-0-1" in path for path in world.evidence.kept)


def test_a_bad_answer_of_an_engine_that_lives_stays_a_bad_answer(world, ready, advance):
    world.server.broken["/v1/completions"] = Reply(500, "no")

    verdict = advance("smoke_test", ready)

    assert isinstance(verdict, Fail)
    assert "/v1/completions answered 500" in verdict.cause


def test_a_connection_that_broke_with_its_peer_waits_for_what_the_peer_says(world, ready, says, advance):
    lws = ready.planned.lws
    leader = pods_of(world, ready)[f"{lws}-0"]
    says(f"{lws}-0", "RuntimeError: [..] Connection closed by peer [10.64.0.3]:29501")
    end(world, leader)

    assert isinstance(advance("smoke_test", ready), Wait)


def test_what_ended_before_the_group_came_up_is_no_matter(world, ready, says):
    leader = pods_of(world, ready)[f"{ready.planned.lws}-0"]
    says(f"{ready.planned.lws}-0", OOM)
    end(world, leader)
    state = group_state.observe(world.ports, "default", "chat", ready.planned.revision_id, ready.planned.lws)
    seen = engine_death.observe(ready, state, world.ports)
    later = engine_death.Aftermath(seen.group, world.now() + 10)

    assert 0 < seen.since < world.now()
    assert engine_death.diagnose(seen, world.now() + 60).cause.class_name == "GPU_OOM"
    assert engine_death.diagnose(later, world.now() + 60).cause is None


def test_a_live_group_that_is_lost_is_explained(world, run_of, says, advance):
    rollout = run_of()
    for step in PIPELINE[: PIPELINE.index("watch_live")]:
        assert isinstance(world.drive(step, rollout), Done), step
    (leader,) = [
        pod
        for pod in world.cluster.list(kinds.POD, "default")
        if pod["metadata"]["labels"].get("llm-rollout.dev/role") == "leader"
    ]
    world.tick(5)
    says(leader["metadata"]["name"], OOM)
    end(world, leader)
    world.controllers.tick = lambda: None
    lws = world.objects(kinds.LEADER_WORKER_SET)[0]
    world.cluster.show({**lws, "status": {**lws["status"], "readyReplicas": 0, "conditions": []}})

    verdict = advance("watch_live", rollout)

    assert isinstance(verdict, Fail)
    assert f"first cause: GPU_OOM on pod {leader['metadata']['name']}" in verdict.cause
