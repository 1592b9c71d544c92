import json
from dataclasses import replace

import pytest

from llm_rollout import budgets, clock, kinds, names, record
from llm_rollout.fabric import inventory
from llm_rollout.fabric.conclusion import conclude
from llm_rollout.job_output import JobOutput
from llm_rollout.manifests.findings import Finding
from llm_rollout.steps import fabric_inventory, measuring, validate_rdma
from llm_rollout.steps.jobs import Create, Delete, JobSeen
from llm_rollout.steps.validate_rdma import Exclude, Seen
from llm_rollout.testing import Ending
from llm_rollout.verdict import Act, Done, Fail, Wait

NOW = 1_790_000_000.0


ALSO_SIMULATED = {"accept_transports": ["rdma", "simulated"]}
OPENINGS = {"rdma": "", "simulated": "SIMULATED FABRIC: ", "tcp": "TCP, NOT RDMA: "}
NOT_RDMA = "measured over tcp, accepted is rdma: TCP, NOT RDMA: "


def report(verdict, transport="rdma", said="3 pairs at 395 Gb/s"):
    """As the probe writes it: the sentence names transport and verdict by itself."""
    sentence = f"{OPENINGS[transport]}{verdict}: {said}"
    return {"verdict": verdict, "transport": transport, "sentence": sentence, "rows": [], "bad": []}


BOOTS = {f"node-{index}": f"boot-{index}" for index in (1, 2, 3)}


@pytest.fixture
def ground(world):
    """What six free nodes offer."""
    return lambda rollout: fabric_inventory.observe(rollout.spec, world.ports, "aaaaaaaa")


@pytest.fixture
def measured(ground):
    """A Job that has ended with a report, which is noted unless told otherwise."""

    def seen(rollout, found, attempt="run/1", *, noted=True, **fields):
        digest = measuring.settings(rollout.spec, ())
        job = measuring.manifests(rollout.spec, BOOTS, digest, attempt)[-1]
        job = {**job, "metadata": {**job["metadata"], "uid": "u", "creationTimestamp": clock.rfc3339(NOW - 60)}}
        ended = {"type": "Complete", "status": "True", "lastTransitionTime": clock.rfc3339(NOW - 10)}
        job["status"] = {"conditions": [ended]}
        kept = (measuring.measured(job, found, NOW),) if found and noted else ()
        return Seen(
            **{
                "findings": (),
                "job": JobSeen(job, (), JobOutput(report=found)),
                "measured": kept,
                "ground": ground(rollout),
                **fields,
            }
        )

    return seen


@pytest.fixture
def unmeasured(ground):
    """Nothing runs yet."""
    return lambda rollout, **fields: Seen(**{"findings": (), "job": JobSeen(None), "ground": ground(rollout), **fields})


@pytest.mark.parametrize(
    ("found", "fabric", "expected"),
    [
        pytest.param(report("PASS"), {}, "PASS: 3 pairs at 395 Gb/s", id="pass"),
        pytest.param(
            report("PASS", "simulated"), ALSO_SIMULATED, "SIMULATED FABRIC: PASS: 3 pairs at 395 Gb/s", id="simulated"
        ),
    ],
)
def test_what_is_fit_is_told_in_the_words_of_the_probe(make_rollout, measured, found, fabric, expected):
    rollout = make_rollout({"fabric": fabric})

    assert validate_rdma.decide(rollout, measured(rollout, found), NOW) == Done(expected, found)


@pytest.mark.parametrize(
    ("found", "fabric", "cause", "remedy"),
    [
        pytest.param(report("DEGRADED"), {}, "DEGRADED: 3 pairs", "fabric.accept_degraded: true", id="degraded"),
        pytest.param(
            report("FAIL", said="link node-4 <-> node-5"), {}, "FAIL: link node-4", "it measures again", id="fail"
        ),
        pytest.param(
            report("INCONCLUSIVE"), {}, "INCONCLUSIVE: 3 pairs", "put right what could not be measured", id="unknown"
        ),
        pytest.param(
            report("FAIL", "simulated"),
            ALSO_SIMULATED,
            "SIMULATED FABRIC: FAIL: 3 pairs",
            "it measures again",
            id="a bad simulated one",
        ),
        pytest.param(
            report("INCONCLUSIVE", "simulated"),
            ALSO_SIMULATED,
            "SIMULATED FABRIC: INCONCLUSIVE: 3 pairs",
            "put right what could not be measured",
            id="an unknown simulated one",
        ),
        pytest.param({}, {}, "the Job ended without a report", "it measures again", id="no report"),
    ],
)
def test_what_is_not_fit_fails_with_its_verdict_said_once(make_rollout, measured, found, fabric, cause, remedy):
    rollout = make_rollout({"fabric": fabric})

    verdict = validate_rdma.decide(rollout, measured(rollout, found), NOW)

    assert isinstance(verdict, Fail)
    assert verdict.cause.startswith(cause)
    assert remedy in verdict.remedy


@pytest.mark.parametrize("verdict", ["PASS", "DEGRADED", "FAIL", "INCONCLUSIVE"])
def test_another_transport_is_the_cause_whatever_was_measured_over_it(make_rollout, measured, verdict):
    rollout = make_rollout({"fabric": {"accept_degraded": True}})

    told = validate_rdma.decide(rollout, measured(rollout, report(verdict, "tcp")), NOW)

    assert isinstance(told, Fail)
    assert told.cause == f"{NOT_RDMA}{verdict}: 3 pairs at 395 Gb/s"
    assert "fabric.accept_transports" in told.remedy


@pytest.mark.parametrize("missing", [[], ["node-2 never joined within 5 s"]], ids=["fail", "fail and one missing"])
def test_the_cause_is_the_sentence_of_the_probe(make_rollout, measured, missing):
    rollout = make_rollout({"fabric": {**ALSO_SIMULATED, "replan": False}})
    down = inventory.Finding("node", "node-3", "mlx5_0: port is DOWN", "bad")

    verdict = validate_rdma.decide(
        rollout, measured(rollout, conclude([], [down], "simulated", missing).as_report()), NOW
    )

    assert verdict.cause.startswith("SIMULATED FABRIC: FAIL: node node-3 mlx5_0: port is DOWN")
    assert verdict.cause.count("FAIL") == 1


@pytest.mark.parametrize(
    ("found", "attempt", "expected"),
    [
        pytest.param("PASS", "run/0", Done, id="a pass of this run is kept"),
        pytest.param("FAIL", "run/0", Act, id="a failure of an earlier try is measured again"),
        pytest.param("FAIL", "run/1", Fail, id="a failure of this try stands"),
    ],
)
def test_cables_get_repaired_and_break(rollout, measured, found, attempt, expected):
    verdict = validate_rdma.decide(rollout, measured(rollout, report(found), attempt), NOW)

    assert isinstance(verdict, expected)
    if expected is Act:
        assert isinstance(verdict.plan, Delete)


@pytest.mark.parametrize(("severity", "expected"), [("error", Fail), ("warning", Done)])
def test_a_wrong_setting_stops_before_anything_is_measured(rollout, measured, severity, expected):
    finding = Finding("K5", "LeaderWorkerSet/chat", "securityContext", None, "no IPC_LOCK", "add IPC_LOCK", severity)

    verdict = validate_rdma.decide(rollout, measured(rollout, report("PASS"), findings=(finding,)), NOW)

    assert isinstance(verdict, expected)
    if expected is Fail:
        assert "[K5]" in verdict.cause
        assert "add IPC_LOCK" in verdict.remedy


def test_one_node_has_no_fabric(make_rollout):
    rollout = make_rollout({"server": {"nodes_per_group": 1, "pipeline_parallel": 1}}, nodes=("node-1",))

    verdict = validate_rdma.decide(rollout, Seen((), JobSeen(None)), NOW)

    assert isinstance(verdict, Done)
    assert "no fabric" in verdict.summary


def test_service_and_job_are_made_for_the_planned_nodes(rollout, unmeasured):
    verdict = validate_rdma.decide(rollout, unmeasured(rollout), NOW)

    assert isinstance(verdict.plan, Create)
    assert [one["kind"] for one in verdict.plan.manifests] == ["Service", "Job"]
    assert verdict.plan.manifests[-1]["spec"]["completions"] == 3


def test_our_own_manifests_have_no_findings(world, run_of, drive_before):
    rollout = drive_before("validate_rdma", run_of())

    assert validate_rdma.observe(rollout, world.ports).findings == ()


def test_the_first_index_speaks_for_all(world, run_of, drive_before):
    world.controllers.job_ends["validate_rdma"] = Ending({"event": "report", **report("FAIL", said="index 0 says so")})

    verdict = world.drive("validate_rdma", drive_before("validate_rdma", run_of()))

    assert "index 0 says so" in verdict.cause


def test_a_report_is_noted_before_anything_is_concluded_from_it(rollout, measured):
    seen = measured(rollout, report("FAIL"), noted=False)

    note = validate_rdma.decide(rollout, seen, NOW).plan

    assert isinstance(note, measuring.Note)
    assert (note.measurement.verdict, note.measurement.nodes, note.measurement.at) == ("FAIL", BOOTS, NOW - 10)


def test_the_report_of_another_run_counts_as_long_as_the_spec_says(make_rollout, measured):
    rollout = make_rollout({"fabric": {"cache_hours": 2}})
    seen = measured(rollout, report("PASS"), "nightly-7/1")

    young = validate_rdma.decide(rollout, seen, NOW + 1.5 * 3600)
    old = validate_rdma.decide(rollout, seen, NOW + 2.5 * 3600)

    assert young.summary.startswith("PASS: 3 pairs at 395 Gb/s (measured 1.5 hours ago by nightly-7;")
    assert isinstance(old.plan, Delete)


def test_a_report_whose_job_is_gone_counts_too(rollout, measured):
    seen = replace(measured(rollout, report("PASS"), "nightly-7/1"), job=JobSeen(None))

    assert isinstance(validate_rdma.decide(rollout, seen, NOW), Done)


@pytest.mark.parametrize(
    ("verdict", "changes"),
    [
        pytest.param("DEGRADED", {"fabric": {"accept_degraded": True}}, id="only a pass is used again"),
        pytest.param("PASS", {"fabric": {"cache_hours": 0}}, id="the spec wants none"),
        pytest.param("PASS", {"fabric": {"queue_pairs": 8}}, id="another way to measure"),
        pytest.param("PASS", {"server": {"network": {"hcas": ["mlx5_7"]}}}, id="another device"),
        pytest.param("PASS", {"server": {"network": {"nccl_env": {"NCCL_IB_TC": "106"}}}}, id="other environment"),
        pytest.param("PASS", {"job_image": "registry/other:1"}, id="another image"),
    ],
)
def test_what_is_another_measurement_is_made(make_rollout, measured, verdict, changes):
    """A DEGRADED spec field is not a setting, so its digest is that of the default."""
    same = changes if verdict == "DEGRADED" else {}
    seen = replace(measured(make_rollout(same), report(verdict), "nightly-7/1"), job=JobSeen(None))

    assert isinstance(validate_rdma.decide(make_rollout(changes), seen, NOW).plan, Create)


def test_a_pass_over_a_transport_that_is_no_longer_accepted_does_not_count(make_rollout, measured):
    seen = measured(make_rollout({"fabric": ALSO_SIMULATED}), report("PASS", "simulated"), "nightly-7/1")

    assert isinstance(validate_rdma.decide(make_rollout(), replace(seen, job=JobSeen(None)), NOW).plan, Create)


@pytest.mark.parametrize("attempt", ["run/1", "nightly-7/1"])
def test_a_node_that_started_again_is_measured_again(rollout, world, ground, measured, attempt):
    node = world.cluster.get(kinds.NODE, "", "node-2")
    world.cluster.show({**node, "status": {**node["status"], "nodeInfo": {"bootID": "another"}}})

    verdict = validate_rdma.decide(rollout, measured(rollout, report("PASS"), attempt, ground=ground(rollout)), NOW)

    assert isinstance(verdict.plan, Delete)


def blamed(*names, kind="node", verdict="FAIL"):
    parts = [{"kind": kind, "name": name, "detail": "mlx5_0: 40 of 400 Gb/s"} for name in names]
    return {**report(verdict, said=f"{kind} {', '.join(names)}"), "bad": parts}


SLOW = {**report("DEGRADED"), "rows": [{"gbps": gbps, "rate_gbps": 400.0} for gbps in (390.0, 370.0, None)]}


@pytest.mark.parametrize(
    ("size", "cost"),
    [
        (16384, "at 370 of 400 Gb/s a token costs"),
        (None, "what that costs a token is not known: set fabric.hidden_size"),
    ],
)
def test_a_degraded_fabric_says_what_it_costs_and_goes_on_only_where_that_is_accepted(
    make_rollout, measured, size, cost
):
    fabric = {"hidden_size": size, "replan": False}
    accepted = decide(make_rollout({"fabric": {**fabric, "accept_degraded": True}}), measured, SLOW)
    refused = decide(make_rollout({"fabric": fabric}), measured, SLOW)

    assert isinstance(accepted, Done)
    assert accepted.summary.startswith(f"DEGRADED: 3 pairs at 395 Gb/s; {cost}")
    assert isinstance(refused, Fail)
    assert cost in refused.cause
    assert refused.remedy.startswith("set fabric.accept_degraded: true to accept it, or ")


def test_a_bad_node_makes_place_for_a_spare(rollout, measured):
    verdict = validate_rdma.decide(rollout, measured(rollout, blamed("node-2")), NOW)

    assert isinstance(verdict.plan, Exclude)
    assert verdict.plan.plan.nodes == ("node-1", "node-3", "node-4")
    assert verdict.plan.plan.excluded_nodes == {"node-2": "FAIL: node node-2"}


def test_a_node_that_is_too_slow_for_the_spec_makes_place_too(make_rollout, measured):
    slow = blamed("node-2", verdict="DEGRADED")

    assert isinstance(decide(make_rollout(), measured, slow).plan, Exclude)
    assert isinstance(decide(make_rollout({"fabric": {"accept_degraded": True}}), measured, slow), Done)


def decide(rollout, measured, found):
    return validate_rdma.decide(rollout, measured(rollout, found), NOW)


@pytest.mark.parametrize(
    "found",
    [
        pytest.param(blamed("node-1", "node-2"), id="two bad nodes"),
        pytest.param(blamed("node-1 <-> node-2", kind="link"), id="a link"),
        pytest.param(blamed("mlx5_0", kind="setting"), id="what all share"),
        pytest.param({**blamed("node-2"), "transport": "tcp"}, id="not measured over RDMA"),
        pytest.param(blamed("node-2", verdict="INCONCLUSIVE"), id="not known to be bad"),
        pytest.param(blamed("node-9"), id="no node of the plan"),
    ],
)
def test_nothing_but_one_bad_node_is_planned_around(rollout, measured, found):
    assert isinstance(decide(rollout, measured, found), Fail)


def test_a_second_bad_node_is_a_failure_that_names_both(make_rollout, measured):
    rollout = make_rollout(excluded_nodes={"node-9": "FAIL: node node-9"})

    verdict = decide(rollout, measured, blamed("node-2"))

    assert isinstance(verdict, Fail)
    assert "node node-2" in verdict.cause
    assert "node-9 was left out before" in verdict.cause
    assert verdict.remedy.startswith("node node-2: look at its cables")


def test_without_a_spare_the_bad_node_is_the_cause(rollout, world, ground, measured):
    for name in ("node-4", "node-5", "node-6"):
        node = world.cluster.get(kinds.NODE, "", name)
        world.cluster.show({**node, "spec": {"unschedulable": True}})

    verdict = validate_rdma.decide(rollout, measured(rollout, blamed("node-2"), ground=ground(rollout)), NOW)

    assert isinstance(verdict, Fail)
    assert "no other node is free to take the place of node-2" in verdict.cause


def test_who_does_not_want_another_plan_gets_none(make_rollout, measured):
    assert isinstance(decide(make_rollout({"fabric": {"replan": False}}), measured, blamed("node-2")), Fail)


def test_a_rollout_goes_on_without_the_bad_node_and_says_so(world, run_of, drive_before):
    rollout = drive_before("validate_rdma", run_of())
    world.controllers.job_ends["validate_rdma"] = lambda job: Ending(
        {"event": "report", **(blamed("node-2") if "node-2" in measuring.nodes_of(job) else report("PASS"))}
    )

    verdict = world.drive("validate_rdma", rollout)

    assert isinstance(verdict, Done)
    assert "node-2 is left out, repair it: FAIL: node node-2" in verdict.summary
    plan = record.load(world.cluster, "default", "chat").run(rollout.run_id).plan
    assert plan.nodes == ("node-1", "node-3", "node-4")
    world.drive("create_group", rollout)
    [group] = world.objects(kinds.LEADER_WORKER_SET)
    assert "node-2" not in json.dumps(group)
    assert "node-4" in json.dumps(group)


def test_a_plan_made_again_leaves_the_bad_node_out_as_well(world, run_of, drive_before):
    rollout = drive_before("validate_rdma", run_of())
    world.controllers.job_ends["validate_rdma"] = lambda job: Ending(
        {"event": "report", **(blamed("node-2") if "node-2" in measuring.nodes_of(job) else report("PASS"))}
    )
    world.drive("validate_rdma", rollout)
    before = record.load(world.cluster, "default", "chat").run(rollout.run_id).plan

    world.drive("plan_rollout", run_of(attempt=2))

    assert record.load(world.cluster, "default", "chat").run(rollout.run_id).plan == before


def test_one_measurement_gets_the_deadline_of_the_spec(rollout, unmeasured):
    job = {**measuring.manifests(rollout.spec, BOOTS, "", "run/1")[-1]}
    job["metadata"] = {**job["metadata"], "uid": "u", "creationTimestamp": clock.rfc3339(NOW)}
    seen = unmeasured(rollout, job=JobSeen(job))
    deadline = rollout.spec.fabric.deadline_seconds

    assert isinstance(validate_rdma.decide(rollout, seen, NOW + deadline), Wait)
    assert "measured for 600 s, and still" in validate_rdma.decide(rollout, seen, NOW + deadline + 1).cause
    assert budgets.wait_seconds("validate_rdma", rollout.spec) == 2 * deadline


def test_another_measurement_on_the_same_nodes_is_waited_for(world, rollout, unmeasured, ground):
    labels = {names.STEP_LABEL: "validate_rdma", "batch.kubernetes.io/job-name": "other-fabric-aaaaaaaa"}
    pod = {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "probe", "namespace": "elsewhere", "labels": labels},
        "spec": {"nodeName": "node-3"}, "status": {"phase": "Running"},
    }  # fmt: skip
    world.cluster.show(pod)
    waits = validate_rdma.decide(rollout, unmeasured(rollout, ground=ground(rollout)), NOW)
    world.cluster.show({**pod, "status": {"phase": "Succeeded"}})

    assert waits.reason == "another measurement runs on these nodes: elsewhere/probe on node-3"
    assert isinstance(validate_rdma.decide(rollout, unmeasured(rollout, ground=ground(rollout)), NOW), Act)


def test_finished_jobs_of_earlier_runs_go_with_their_services(world, run_of, drive_before):
    changed = {"fabric": {"cache_hours": 0}}
    world.drive("validate_rdma", drive_before("validate_rdma", run_of("v1", changed)))
    [(old, _)] = [(job, None) for job in world.objects(kinds.JOB) if "fabric" in job["metadata"]["name"]]
    other = {"fabric": {"cache_hours": 0, "queue_pairs": 2}}
    world.drive("conclude", run_of("v1", changed))

    world.drive("validate_rdma", drive_before("validate_rdma", run_of("v2", other)))

    left = {one["metadata"]["name"] for kind in (kinds.JOB, kinds.SERVICE) for one in world.objects(kind)}
    assert old["metadata"]["name"] not in left
    assert len([name for name in left if "fabric" in name]) == 1


def test_what_the_probe_saw_without_traffic_has_its_own_remedy(make_rollout, measured):
    finding = {**blamed("node-2", kind="nic")["bad"][0], "severity": "bad", "remedy": "look at the switch port"}
    found = {**blamed("node-2", kind="nic"), "findings": [finding]}

    told = decide(make_rollout({"fabric": {"replan": False}}), measured, found)

    assert told.remedy.startswith("nic node-2 mlx5_0: look at the switch port; then clear")


def test_a_bad_nic_makes_place_for_a_spare_as_its_node_would(rollout, measured):
    assert decide(rollout, measured, blamed("node-2", kind="nic")).plan.plan.nodes == ("node-1", "node-3", "node-4")


@pytest.mark.parametrize(
    ("verdict", "part", "remedy"),
    [
        (
            "FAIL",
            blamed("node-2"),
            "node node-2: look at its cables, NICs, drivers and RDMA settings (mlx5_0: 40 of 400 Gb/s); then",
        ),
        ("FAIL", blamed("node-1 <-> node-2", kind="link"), "link node-1 <-> node-2: look at the path"),
        ("FAIL", blamed("node-2", kind="nic"), "nic node-2 mlx5_0: look at this port's cable"),
        ("FAIL", blamed("mlx5_3", kind="rail"), "rail mlx5_3: look at this rail's switch"),
        ("FAIL", blamed("node-1 -> node-2", kind="direction"), "direction node-1 -> node-2: look at the sender's"),
        ("FAIL", blamed("all", kind="global"), "global all: look at what all nodes share"),
        ("FAIL", blamed("mlx5_3", kind="setting"), "setting mlx5_3: look at what the pods are given"),
        (
            "DEGRADED",
            blamed("node-2", verdict="DEGRADED"),
            "set fabric.accept_degraded: true to accept it, or node node-2",
        ),
        (
            "INCONCLUSIVE",
            report("INCONCLUSIVE"),
            "put right what could not be measured, or told apart (INCONCLUSIVE: 3 pairs",
        ),
    ],
)
def test_the_last_line_names_the_part_and_what_to_do(make_rollout, measured, verdict, part, remedy):
    told = decide(make_rollout({"fabric": {"replan": False}}), measured, part)

    assert told.cause.startswith(verdict)
    assert told.remedy.startswith(remedy)
    assert told.remedy.endswith("then clear this task: it measures again")
