"""Nodes that nobody uses are measured, and rollouts are never disturbed."""

from __future__ import annotations

import pytest

from llm_rollout import idle_fabric, kinds, lease, measurements, record, runner
from llm_rollout.idle_fabric import Asked
from llm_rollout.rollout import Rollout
from llm_rollout.spec import RolloutSpec
from llm_rollout.steps import measuring
from llm_rollout.testing import Ending, Simulation
from llm_rollout.verdict import Done, Fail, Wait

SPEC = {
    "name": "chat",
    "model": {"repo": "org/chat"},
    "server": {"nodes_per_group": 3, "tensor_parallel": 8, "pipeline_parallel": 3},
    "service": {"name": "chat-api"},
}


def report(verdict="PASS", bad=()):
    return {
        "event": "report", "verdict": verdict, "transport": "rdma", "sentence": f"{verdict}: so it is",
        "rows": [], "bad": list(bad),
    }  # fmt: skip


@pytest.fixture
def world():
    simulation = Simulation("chat", {"v1": "1" * 40})
    simulation.add_nodes(6)
    simulation.add_claim("default", "model-store")
    simulation.controllers.job_ends["validate_rdma"] = Ending(report())
    return simulation


def spec_of(name="chat", **changes):
    return RolloutSpec.model_validate({**SPEC, "name": name, "service": {"name": f"{name}-api"}, **changes})


def asked(run="night-1", attempt=1, spec=None, every=()):
    spec = spec or spec_of()
    return Asked(spec, (spec, *every), run, f"{run}/{attempt}")


def advance(world, task):
    return idle_fabric.advance(task, world.ports, world.now)


def drive(world, task):
    """Advance to the end, as operator and trigger do."""
    for _ in range(30):
        verdict = advance(world, task)
        if not isinstance(verdict, Wait):
            return verdict
        world.tick()
    raise AssertionError(f"still: {verdict}")


def measured(world, name="chat"):
    return measurements.load(world.cluster, "default", name)


def probes(world):
    return [job for job in world.objects(kinds.JOB) if not job["metadata"].get("deletionTimestamp")]


def test_idle_nodes_are_measured_noted_and_left_as_they_were(world):
    verdict = drive(world, asked())
    world.tick()
    world.tick()

    assert isinstance(verdict, Done)
    assert verdict.summary == "node-1, node-2, node-3, node-4, node-5, node-6: PASS: so it is"
    [one] = measured(world)
    assert one.nodes == {f"node-{index}": f"boot-{index}" for index in range(1, 7)}
    assert world.objects(kinds.JOB) == world.objects(kinds.SERVICE) == []


def test_a_rollout_in_the_morning_believes_it(world):
    drive(world, asked())
    world.tick(3600)

    rollout = Rollout(spec_of(), "run", "run/1", "v1")
    world.drive("plan_rollout", rollout)
    verdict = world.drive("validate_rdma", rollout)

    assert isinstance(verdict, Done)
    assert verdict.summary.startswith("PASS: so it is (measured 1.0 hours ago by night-1;")


@pytest.mark.parametrize("verdict", ["FAIL", "DEGRADED", "INCONCLUSIVE"])
def test_what_is_not_fit_is_red_noted_and_names_the_part(world, verdict):
    node = {"kind": "node", "name": "node-2", "detail": "mlx5_0: 40 Gb/s"}
    world.controllers.job_ends["validate_rdma"] = Ending(report(verdict, [node]))

    told = drive(world, asked())

    assert isinstance(told, Fail)
    assert told.cause == f"{verdict}: so it is"
    assert ("node node-2" in told.remedy) == (verdict != "INCONCLUSIVE")
    assert [one.verdict for one in measured(world)] == [verdict]
    assert probes(world) == []


def test_clearing_a_red_task_measures_again(world):
    world.controllers.job_ends["validate_rdma"] = Ending(report("FAIL"))
    drive(world, asked())
    world.controllers.job_ends["validate_rdma"] = Ending(report())

    assert isinstance(drive(world, asked(attempt=2)), Done)
    assert [one.verdict for one in measured(world)] == ["FAIL", "PASS"]


def test_a_task_that_is_run_again_after_its_end_says_the_same_and_measures_nothing(world):
    first = drive(world, asked())
    world.tick()
    writes = len(world.cluster.writes)

    assert drive(world, asked()) == first
    assert world.cluster.writes[writes:] == []


def test_a_job_of_an_earlier_try_makes_place(world):
    advance(world, asked())
    world.tick()

    drive(world, asked(attempt=2))

    assert [one.attempt for one in measured(world)] == ["night-1/2"]


def test_while_the_model_is_rolled_out_nothing_is_measured(world):
    world.drive("plan_rollout", Rollout(spec_of(), "run", "run/1", "v1"))

    verdict = advance(world, asked())

    assert verdict == Done("nothing was measured: run run rolls chat out", {"skipped": True})
    assert world.objects(kinds.JOB) == []


def test_a_rollout_that_begins_gets_the_nodes_at_once(world):
    advance(world, asked())
    world.tick()
    rollout = Rollout(spec_of(), "run", "run/1", "v1")
    world.drive("plan_rollout", rollout)
    assert (
        "another measurement runs on these nodes"
        in runner.advance("validate_rdma", rollout, world.ports, world.now).reason
    )

    verdict = drive(world, asked())
    world.controllers.job_ends["validate_rdma"] = Ending(report())

    assert verdict.evidence == {"skipped": True}
    assert isinstance(world.drive("validate_rdma", rollout), Done)


def test_nodes_that_another_model_has_planned_are_let_alone(world):
    other = spec_of("other")
    world.drive("plan_rollout", Rollout(other, "run", "run/1", "v1"))

    verdict = drive(world, asked(every=(other,)))

    assert verdict.summary.startswith("node-4, node-5, node-6: PASS")


def test_a_measurement_is_given_up_when_another_model_plans_its_nodes(world):
    other = spec_of("other")
    advance(world, asked(every=(other,)))
    world.tick()
    world.drive("plan_rollout", Rollout(other, "run", "run/1", "v1"))

    verdict = drive(world, asked(every=(other,)))

    assert verdict.summary.startswith("node-4, node-5, node-6: PASS")


def test_a_run_that_has_ended_or_lost_its_lease_reserves_nothing(world):
    rollout = Rollout(spec_of(), "run", "run/1", "v1")
    world.drive("plan_rollout", rollout)
    held = lease.read(world.cluster, "default", "chat")
    world.now.moment = held.expires + 1

    assert isinstance(drive(world, asked()), Done)
    assert len(measured(world)[0].nodes) == 6
    assert record.load(world.cluster, "default", "chat").run("run").outcome is None


def holding(node):
    container = {"name": "x", "resources": {"limits": {"nvidia.com/gpu": "1"}}}
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"on-{node}", "namespace": "elsewhere"},
        "spec": {"nodeName": node, "containers": [container]}, "status": {"phase": "Running"},
    }  # fmt: skip


def test_a_node_with_one_gpu_in_use_is_not_idle(world):
    for index in (1, 2, 3, 4, 5):
        world.cluster.show(holding(f"node-{index}"))

    verdict = advance(world, asked())

    assert verdict.summary == "nothing was measured: 1 idle nodes could take a pod of chat: a pair is needed"


def test_no_more_than_sixteen_and_all_have_their_turn(world):
    world.add_nodes(20)
    drive(world, asked())
    world.tick(3600)
    drive(world, asked("night-2"))

    first, second = (set(one.nodes) for one in measured(world))
    assert len(first) == len(second) == 16
    assert first | second == {f"node-{index}" for index in range(1, 21)}


def test_a_short_deadline_measures_fewer_nodes(world):
    drive(world, asked(spec=spec_of(fabric={"seconds_per_pair": 10, "deadline_seconds": 160})))

    assert len(measured(world)[0].nodes) == 4


def test_a_job_without_output_is_red(world):
    world.controllers.job_ends["validate_rdma"] = Ending({"event": "progress"})

    assert "its output is gone" in drive(world, asked()).cause


def test_what_would_keep_it_from_running_is_said(world):
    spec = spec_of(server={**SPEC["server"], "network": {"attachments": ["rail-0"]}})

    assert "no NetworkAttachmentDefinition rail-0" in advance(world, asked(spec=spec)).cause


def test_its_job_says_what_it_measures(world):
    advance(world, asked())

    [job] = probes(world)
    assert measuring.nodes_of(job) == {f"node-{index}" for index in range(1, 7)}
