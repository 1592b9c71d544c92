import pytest

from llm_rollout.job_output import JobOutput
from llm_rollout.manifests.fabric_job import fabric_job
from llm_rollout.manifests.findings import Finding
from llm_rollout.steps import validate_rdma
from llm_rollout.steps.jobs import Create, Delete, JobSeen
from llm_rollout.steps.validate_rdma import Seen
from llm_rollout.testing import Ending
from llm_rollout.verdict import Act, Done, Fail

NOW = 1_790_000_000.0


def report(verdict, transport="rdma", sentence="3 pairs at 395 Gb/s"):
    return {"verdict": verdict, "transport": transport, "sentence": sentence, "rows": [], "bad": []}


def measured(rollout, found, attempt="run/1", findings=()):
    job = fabric_job(rollout.spec, rollout.planned.nodes, attempt)[-1]
    job = {**job, "metadata": {**job["metadata"], "uid": "u"}}
    job["status"] = {"conditions": [{"type": "Complete", "status": "True"}]}
    return Seen(tuple(findings), JobSeen(job, (), JobOutput(report=found)))


@pytest.mark.parametrize(
    ("found", "fabric", "expected", "words"),
    [
        pytest.param(report("PASS"), {}, Done, "395 Gb/s", id="pass"),
        pytest.param(report("DEGRADED"), {}, Fail, "accept_degraded", id="degraded"),
        pytest.param(report("DEGRADED"), {"accept_degraded": True}, Done, "", id="degraded and accepted"),
        pytest.param(
            report("FAIL", sentence="node-4 <-> node-5: 120 of 400 Gb/s"), {}, Fail, "node-4 <-> node-5", id="fail"
        ),
        pytest.param(report("INCONCLUSIVE"), {}, Fail, "could be measured", id="inconclusive is no pass"),
        pytest.param(report("PASS", "tcp"), {}, Fail, "measured over tcp, accepted is rdma", id="pass over tcp"),
        pytest.param(
            report("PASS", "simulated"), {"accept_transports": ["rdma", "simulated"]}, Done, "", id="simulated by name"
        ),
        pytest.param(
            report("FAIL", "simulated"), {"accept_transports": ["simulated"]}, Fail, "FAIL", id="a bad simulated one"
        ),
        pytest.param({}, {}, Fail, "without a report", id="no report"),
    ],
)
def test_the_report_decides(make_rollout, found, fabric, expected, words):
    rollout = make_rollout({"fabric": fabric})

    verdict = validate_rdma.decide(rollout, measured(rollout, found), NOW)

    assert isinstance(verdict, expected)
    assert words in str(verdict)


@pytest.mark.parametrize(
    ("found", "attempt", "expected"),
    [
        pytest.param("PASS", "run/0", Done, id="a pass of this run is kept"),
        pytest.param("PASS", "other/1", Act, id="a pass of another run is measured again"),
        pytest.param("FAIL", "run/0", Act, id="a failure of an earlier try is measured again"),
        pytest.param("FAIL", "run/1", Fail, id="a failure of this try stands"),
    ],
)
def test_cables_get_repaired_and_break(rollout, found, attempt, expected):
    verdict = validate_rdma.decide(rollout, measured(rollout, report(found), attempt), NOW)

    assert isinstance(verdict, expected)
    if expected is Act:
        assert isinstance(verdict.plan, Delete)


@pytest.mark.parametrize(("severity", "expected"), [("error", Fail), ("warning", Done)])
def test_a_wrong_setting_stops_before_anything_is_measured(rollout, severity, expected):
    finding = Finding("K5", "LeaderWorkerSet/chat", "securityContext", None, "no IPC_LOCK", "add IPC_LOCK", severity)

    verdict = validate_rdma.decide(rollout, measured(rollout, report("PASS"), findings=[finding]), NOW)

    assert isinstance(verdict, expected)
    if expected is Fail:
        assert "[K5]" in verdict.cause
        assert "add IPC_LOCK" in verdict.remedy


def test_one_node_has_no_fabric(make_rollout):
    rollout = make_rollout({"server": {"nodes_per_group": 1, "pipeline_parallel": 1}}, nodes=("node-1",))

    verdict = validate_rdma.decide(rollout, Seen((), JobSeen(None)), NOW)

    assert isinstance(verdict, Done)
    assert "no fabric" in verdict.summary


def test_service_and_job_are_made_for_the_planned_nodes(rollout):
    verdict = validate_rdma.decide(rollout, Seen((), JobSeen(None)), NOW)

    assert isinstance(verdict.plan, Create)
    assert [one["kind"] for one in verdict.plan.manifests] == ["Service", "Job"]
    assert verdict.plan.manifests[-1]["spec"]["completions"] == 3


def test_our_own_manifests_have_no_findings(world, run_of, drive_before):
    rollout = drive_before("validate_rdma", run_of())

    assert validate_rdma.observe(rollout, world.ports).findings == ()


def test_the_first_index_speaks_for_all(world, run_of, drive_before):
    world.controllers.job_ends["validate_rdma"] = Ending(
        {"event": "report", **report("FAIL", sentence="index 0 says so")}
    )

    verdict = world.drive("validate_rdma", drive_before("validate_rdma", run_of()))

    assert "index 0 says so" in verdict.cause
