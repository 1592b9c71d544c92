import pytest

from llm_rollout.fabric import inventory
from llm_rollout.fabric.conclusion import conclude
from llm_rollout.job_output import JobOutput
from llm_rollout.manifests.fabric_job import fabric_job
from llm_rollout.manifests.findings import Finding
from llm_rollout.steps import validate_rdma
from llm_rollout.steps.jobs import Create, Delete, JobSeen
from llm_rollout.steps.validate_rdma import Seen
from llm_rollout.testing import Ending
from llm_rollout.verdict import Act, Done, Fail

NOW = 1_790_000_000.0


ALSO_SIMULATED = {"accept_transports": ["rdma", "simulated"]}
OPENINGS = {"rdma": "", "simulated": "SIMULATED FABRIC: ", "tcp": "TCP, NOT RDMA: "}
NOT_RDMA = "measured over tcp, accepted is rdma: TCP, NOT RDMA: "


def report(verdict, transport="rdma", said="3 pairs at 395 Gb/s"):
    """As the probe writes it: the sentence names transport and verdict by itself."""
    sentence = f"{OPENINGS[transport]}{verdict}: {said}"
    return {"verdict": verdict, "transport": transport, "sentence": sentence, "rows": [], "bad": []}


def measured(rollout, found, attempt="run/1", findings=()):
    job = fabric_job(rollout.spec, rollout.planned.nodes, attempt)[-1]
    job = {**job, "metadata": {**job["metadata"], "uid": "u"}}
    job["status"] = {"conditions": [{"type": "Complete", "status": "True"}]}
    return Seen(tuple(findings), JobSeen(job, (), JobOutput(report=found)))


@pytest.mark.parametrize(
    ("found", "fabric", "expected"),
    [
        pytest.param(report("PASS"), {}, "PASS: 3 pairs at 395 Gb/s", id="pass"),
        pytest.param(report("DEGRADED"), {"accept_degraded": True}, "DEGRADED: 3 pairs at 395 Gb/s", id="degraded"),
        pytest.param(
            report("PASS", "simulated"), ALSO_SIMULATED, "SIMULATED FABRIC: PASS: 3 pairs at 395 Gb/s", id="simulated"
        ),
    ],
)
def test_what_is_fit_is_told_in_the_words_of_the_probe(make_rollout, found, fabric, expected):
    rollout = make_rollout({"fabric": fabric})

    assert validate_rdma.decide(rollout, measured(rollout, found), NOW) == Done(expected, found)


@pytest.mark.parametrize(
    ("found", "fabric", "cause", "remedy"),
    [
        pytest.param(report("DEGRADED"), {}, "DEGRADED: 3 pairs", "fabric.accept_degraded: true", id="degraded"),
        pytest.param(
            report("FAIL", said="link node-4 <-> node-5"), {}, "FAIL: link node-4", "it measures again", id="fail"
        ),
        pytest.param(report("INCONCLUSIVE"), {}, "INCONCLUSIVE: 3 pairs", "nothing is known to be bad", id="unknown"),
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
            "nothing is known to be bad",
            id="an unknown simulated one",
        ),
        pytest.param({}, {}, "the Job ended without a report", "it measures again", id="no report"),
    ],
)
def test_what_is_not_fit_fails_with_its_verdict_said_once(make_rollout, found, fabric, cause, remedy):
    rollout = make_rollout({"fabric": fabric})

    verdict = validate_rdma.decide(rollout, measured(rollout, found), NOW)

    assert isinstance(verdict, Fail)
    assert verdict.cause.startswith(cause)
    assert remedy in verdict.remedy


@pytest.mark.parametrize("verdict", ["PASS", "DEGRADED", "FAIL", "INCONCLUSIVE"])
def test_another_transport_is_the_cause_whatever_was_measured_over_it(make_rollout, verdict):
    rollout = make_rollout({"fabric": {"accept_degraded": True}})

    told = validate_rdma.decide(rollout, measured(rollout, report(verdict, "tcp")), NOW)

    assert isinstance(told, Fail)
    assert told.cause == f"{NOT_RDMA}{verdict}: 3 pairs at 395 Gb/s"
    assert "fabric.accept_transports" in told.remedy


@pytest.mark.parametrize("missing", [[], ["node-2 never joined within 5 s"]], ids=["fail", "fail and one missing"])
def test_the_cause_is_the_sentence_of_the_probe(make_rollout, missing):
    rollout = make_rollout({"fabric": ALSO_SIMULATED})
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
    world.controllers.job_ends["validate_rdma"] = Ending({"event": "report", **report("FAIL", said="index 0 says so")})

    verdict = world.drive("validate_rdma", drive_before("validate_rdma", run_of()))

    assert "index 0 says so" in verdict.cause
