import pytest

from llm_rollout import clock
from llm_rollout.steps import watch_live
from llm_rollout.steps.group_state import GroupState
from llm_rollout.steps.live_metrics import Load, parse
from llm_rollout.steps.traffic import Traffic
from llm_rollout.steps.watch_live import Seen
from llm_rollout.verdict import Done, Fail, Wait

NOW = 1_790_000_000.0
QUIET = Load(1000, 0, 3, 0)


@pytest.fixture
def live(serving, make_pod):
    workers = [make_pod(f"chat-aaaaaaaa-0-{index}", "worker") for index in (1, 2)]
    return GroupState(serving(), (make_pod(), *workers))


@pytest.fixture
def behind(rollout, make_service):
    def traffic(seconds_ago, selected="aaaaaaaa"):
        return Traffic(make_service(rollout, selected, clock.rfc3339(NOW - seconds_ago)), ("chat-aaaaaaaa-0",))

    return traffic


@pytest.mark.parametrize(
    ("seconds_ago", "load", "expected", "words"),
    [
        pytest.param(3, QUIET, Wait, "1000 requests since the switch, 0 errors", id="baking"),
        pytest.param(
            10, QUIET, Done, "served for 10 s, too little live traffic to judge: 1000 requests", id="not judged"
        ),
        pytest.param(3, Load(), Wait, "0 requests", id="no traffic is no error"),
        pytest.param(3, Load(100, 30, 0, 0), Fail, "30 of 100 live requests", id="errors"),
        pytest.param(10, Load(100, 30, 0, 0), Fail, "30 of 100", id="errors at the very end"),
        pytest.param(3, Load(49, 30, 0, 0), Wait, "30 errors", id="a burst of a second is no trend"),
        pytest.param(3, Load(1000, 200, 0, 0), Wait, "200 errors", id="at the limit"),
        pytest.param(3, Load(1000, 201, 0, 0), Fail, "more than 20% are never borne", id="above the limit"),
        pytest.param(3, Load(100, 0, 90, 0), Wait, "90 aborted", id="clients that hang up are no error"),
        pytest.param(3, None, Wait, "not readable", id="no numbers while baking"),
        pytest.param(10, None, Wait, "cannot be read", id="no numbers are not good numbers"),
    ],
)
def test_time_and_numbers_decide(rollout, live, behind, seconds_ago, load, expected, words):
    verdict = watch_live.decide(rollout, Seen(behind(seconds_ago), live, load), NOW)

    assert isinstance(verdict, expected)
    assert words in str(verdict)


def test_a_group_that_is_lost_ends_the_bake_with_its_last_words(rollout, serving, make_pod, behind):
    ended = {"terminated": {"exitCode": 137, "finishedAt": clock.rfc3339(NOW)}}
    dead = make_pod(ready=False, containerStatuses=[{"name": "vllm", "restartCount": 0, "state": ended}])
    live = GroupState(serving(readyReplicas=0), (dead,), (), {"chat-aaaaaaaa-0": "boom\n"})

    verdict = watch_live.decide(rollout, Seen(behind(3), live, QUIET), NOW)

    assert isinstance(verdict, Fail)
    assert verdict.evidence["pods"] == {"chat-aaaaaaaa-0": "exit code 137 boom"}


def test_a_switch_by_somebody_else_is_not_watched(rollout, live, behind):
    assert isinstance(watch_live.decide(rollout, Seen(behind(3, "bbbbbbbb"), live, QUIET), NOW), Fail)


def test_only_what_happened_since_the_switch_counts(world, run_of, drive_before):
    drive_before("switch_service", run_of())
    plan = drive_before("switch_service", run_of()).planned
    world.server.finished[f"{plan.lws}-0"], world.server.errors[f"{plan.lws}-0"] = 100, 50
    world.drive("switch_service", run_of())

    assert isinstance(world.drive("watch_live", run_of()), Done)


def test_series_are_summed_over_engines_and_leaders():
    text = """
# HELP vllm:request_success_total Count of successfully processed requests.
vllm:num_requests_waiting{engine="0",model_name="chat"} 2.0
vllm:num_requests_waiting{engine="1",model_name="chat"} 3.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="chat",reason="capacity"} 9.0
vllm:request_success_total{engine="0",finished_reason="stop",model_name="chat"} 10.0
vllm:request_success_total{engine="0",finished_reason="length",model_name="chat"} 1.0
vllm:request_success_total{engine="1",finished_reason="error",model_name="chat"} 4.0
vllm:request_success_total{engine="1",finished_reason="abort",model_name="chat"} 5.0
vllm:request_success_created{engine="1",finished_reason="abort",model_name="chat"} 1.7e+09
"""

    assert parse(text) == Load(finished=20, errors=4, aborted=5, waiting=5)


def test_counters_that_went_back_began_again():
    assert Load(5, 1, 0, 0).since(Load(100, 50, 0, 0)) == Load(5, 1, 0, 0)
    assert Load(120, 51, 2, 7).since(Load(100, 50, 0, 3)) == Load(20, 1, 2, 7)
