import pytest

from llm_rollout import kinds
from llm_rollout.ports import Reply
from llm_rollout.steps import PIPELINE, smoke_test, tripwire
from llm_rollout.steps.smoke_test import Probe, Seen
from llm_rollout.steps.tripwire import Scores
from llm_rollout.verdict import Done, Fail, Wait

NOW = 1_790_000_000.0


@pytest.fixture
def ready(run_of, drive_before):
    return drive_before("smoke_test", run_of())


def smoke(world, rollout):
    return smoke_test.decide(rollout, smoke_test.observe(rollout, world.ports), NOW)


def test_a_leader_that_generates_streams_and_reports_is_fine(world, ready):
    verdict = smoke(world, ready)

    assert isinstance(verdict, Done)
    told = next(iter(verdict.evidence.values()))
    assert told.items() >= {"2+2=": "4", "7+5=": "12", "9+0=": "9"}.items()
    assert told["log_probabilities"] == "not compared: there is no stable revision"


@pytest.mark.parametrize(
    ("path", "reply", "expected", "words"),
    [
        pytest.param("/v1/models", Reply(200, {"data": [{"id": "other"}]}), Fail, "lists ['other']", id="other name"),
        pytest.param("/v1/models", Reply(404, "no"), Fail, "answered 404", id="no API"),
        pytest.param("/v1/models", Reply(503, ""), Wait, "answered 503", id="coming up"),
        pytest.param("/v1/completions", Reply(500, "EngineDeadError"), Fail, "EngineDeadError", id="engine dead"),
        pytest.param(
            "/v1/completions", Reply(200, {"choices": [{"text": ""}], "usage": {"completion_tokens": 0}}),
            Fail, "no token generated", id="no token",
        ),
        pytest.param("/v1/completions", Reply(502, ""), Wait, "answered 502", id="proxy not through yet"),
        pytest.param("/v1/completions stream", Reply(200, "5"), Fail, "streams '5' and answers '4'", id="differs"),
        pytest.param("/metrics", Reply(200, "go_threads 3\n"), Fail, "has 0 vllm: series", id="no series"),
        pytest.param(
            "/metrics", Reply(200, 'vllm:num_requests_waiting{model_name="x"} 0\n'), Fail, "none of model_name chat",
            id="series of another model",
        ),
    ],
)  # fmt: skip
def test_what_a_leader_answers_decides(world, ready, path, reply, expected, words):
    world.server.broken[path] = reply

    verdict = smoke(world, ready)

    assert isinstance(verdict, expected)
    assert words in str(verdict)


def test_a_refused_connection_is_tried_again(world, ready):
    leader = world.cluster.get(kinds.POD, "default", f"{ready.planned.lws}-0")
    leader["status"]["conditions"] = []
    world.cluster.show(leader)

    verdict = smoke(world, ready)

    assert isinstance(verdict, Wait)
    assert "connection refused" in verdict.reason


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        pytest.param(Seen((Probe("a"), Probe("b")), 2), Done, id="all answer"),
        pytest.param(Seen((Probe("a"),), 2), Fail, id="a leader is missing"),
        pytest.param(Seen((), 0), Fail, id="the group is gone"),
        pytest.param(Seen((Probe("a", pending="503"), Probe("b", bad="404")), 2), Fail, id="bad beats pending"),
        pytest.param(Seen((Probe("a"), Probe("b", pending="503")), 2), Wait, id="one is coming up"),
    ],
)
def test_every_leader_has_to_answer(rollout, seen, expected):
    assert isinstance(smoke_test.decide(rollout, seen, NOW), expected)


def test_wrong_sums_are_the_canary_s_matter(world, ready):
    reply = {"choices": [{"text": "5"}], "usage": {"completion_tokens": 1}}
    world.server.broken |= {"/v1/completions": Reply(200, reply), "/v1/completions stream": Reply(200, "5")}

    assert isinstance(smoke(world, ready), Done)


def test_each_leader_of_each_group_is_asked(world, run_of, drive_before):
    rollout = drive_before("smoke_test", run_of(changes={"groups": 2}))

    verdict = smoke(world, rollout)

    assert sorted(verdict.evidence) == [f"{rollout.planned.lws}-0", f"{rollout.planned.lws}-1"]


def scored(shift):
    return Scores((tuple(map(str, range(40))),), (tuple(-each / 10 - shift for each in range(40)),))


@pytest.mark.parametrize(("shift", "expected"), [(0.01, Done), (5.0, Fail)])
def test_other_log_probabilities_than_stable_s_trip_it(rollout, shift, expected):
    seen = Seen((Probe("a"), Probe("b", scores=scored(shift))), 2, scored(0.0), same_commit=True)

    verdict = smoke_test.decide(rollout, seen, NOW)

    assert isinstance(verdict, expected)
    if expected is Fail:
        assert verdict.cause.startswith("leader b: its log probabilities of 40 fixed tokens differ")
        assert "dtype" in verdict.remedy


def test_the_leader_of_stable_is_asked_at_its_own_port(world, run_of, drive_before, monkeypatch):
    asked = []
    monkeypatch.setattr(
        tripwire, "read", lambda _, endpoint, __: asked.append((endpoint.name, endpoint.port)) or scored(0)
    )
    for step in (*PIPELINE, "conclude"):
        world.drive(step, run_of())
    upgrade = drive_before("smoke_test", run_of("v2"))
    asked.clear()

    seen = smoke_test.observe(upgrade, world.ports)

    assert asked[0] == (f"{upgrade.planned.stable_lws}-0", upgrade.planned.stable_port)
    assert asked[1][0] == f"{upgrade.planned.lws}-0"
    assert (seen.stable, seen.same_commit) == (scored(0), False)
