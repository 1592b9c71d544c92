import socket
import threading
import time

import pytest

from llm_rollout.adapters.pairs import Pairs, Setting
from llm_rollout.canary.back_pressure import Limits, Pace
from llm_rollout.canary.streams import Stream
from llm_rollout.canary.task_set import Task
from llm_rollout.errors import Permanent, Transient
from tests.canary.stub_server import Fault, Slow, StubServer, gauges, right

TASKS = tuple(Task(f"{a}+{b}", str(a + b), f"{a}+{b}=") for a in range(5) for b in range(5))


@pytest.fixture
def server():
    servers = []

    def start(*args, **kwargs):
        servers.append(StubServer(*args, **kwargs))
        return servers[-1]

    yield start
    for each in servers:
        each.close()


def setting(**changes):
    standard = {
        "model": "tiny",
        "max_tokens": 16,
        "limits": Limits(4),
        "deadline_seconds": time.monotonic() + 30,
        "seed": 1,
        "reach_seconds": 0.0,
    }
    return Setting(**standard | changes)


def nobody():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def test_both_sides_are_asked_every_task_once_and_streaming(server):
    stable, candidate = server(), server()

    with Pairs(candidate.url, stable.url, setting()) as pairs:
        replies = pairs.ask(TASKS)

    assert [(one.text, two.text) for one, two in replies] == [(task.answer, task.answer) for task in TASKS]
    assert stable.asked == candidate.asked == dict.fromkeys((task.prompt for task in TASKS), 1)
    assert all(body["stream"] and body["temperature"] == 0 and body["stop"] == ["\n"] for body in candidate.bodies)


def test_a_complete_reply_carries_its_times_and_tokens(server):
    with Pairs(server().url, None, setting()) as pairs:
        (reply,) = pairs.ask_candidate(TASKS[:1])

    assert not reply.failure
    assert 0 < reply.ttft_ms <= reply.total_ms
    assert (reply.tokens, reply.prompt_tokens) == (len(TASKS[0].answer) + 1, 4)


def test_times_are_those_of_the_user(server):
    slow = server(lambda *_: Slow("abc", 0.08, 0.04))
    with Pairs(slow.url, None, setting()) as pairs:
        (reply,) = pairs.ask_candidate(TASKS[:1])

    assert 80 <= reply.ttft_ms <= reply.total_ms
    assert reply.total_ms >= 160
    assert 80 / 3 <= reply.itl_ms <= (reply.total_ms - reply.ttft_ms) / 3


@pytest.mark.parametrize(
    ("fault", "failure"),
    [
        ("500", "status 500"),
        ("hang up", "RemoteProtocolError"),
        ("cut", "RemoteProtocolError"),
        ("no finish", "stream without a finish reason"),
        ("no end mark", "stream without [DONE]"),
        ("error event", "error in the stream"),
        ("garbage", "stream of something else than completions"),
        ("abort", "finish reason abort"),
    ],
)
def test_an_incomplete_answer_is_a_failure_with_its_reason(server, fault, failure):
    with Pairs(server(lambda *_: Fault(fault)).url, server().url, setting()) as pairs:
        ((stable, candidate),) = pairs.ask(TASKS[:1])

    assert (stable.failure, candidate.failure) == ("", failure)
    assert candidate.ttft_ms is None


def test_a_side_that_is_not_there_fails_its_requests_only(server):
    with Pairs(nobody(), server().url, setting()) as pairs:
        ((stable, candidate),) = pairs.ask(TASKS[:1])

    assert (stable.failure, candidate.failure) == ("", "ConnectError")


def test_an_answer_that_does_not_end_is_given_up(server):
    gate = threading.Event()

    def late(number, prompt):
        gate.wait(20)
        return right(number, prompt)

    with Pairs(server(late).url, None, setting(request_seconds=0.2)) as pairs:
        (reply,) = pairs.ask_candidate(TASKS[:1])
        gate.set()

    assert reply.failure == "no end after 0.2 s"


@pytest.mark.parametrize("side", ["stable", "candidate"])
def test_a_side_that_is_far_slower_than_the_other_is_not_waited_for(server, side):
    gate = threading.Event()

    def late(number, prompt):
        gate.wait(20)
        return right(number, prompt)

    urls = {name: server(late if name == side else right).url for name in ("stable", "candidate")}
    with Pairs(urls["candidate"], urls["stable"], setting(patience_seconds=0.3)) as pairs:
        (both,) = pairs.ask(TASKS[:1])
        gate.set()

    replies = dict(zip(("stable", "candidate"), both, strict=True))
    assert replies.pop(side).failure == "no end long after the other side's"
    assert [reply.failure for reply in replies.values()] == [""]


def test_a_side_that_fails_at_once_takes_no_time_from_the_other(server):
    slow = server(lambda *_: Slow("abc", 0.3))
    with Pairs(nobody(), slow.url, setting(patience_seconds=0.1)) as pairs:
        ((stable, candidate),) = pairs.ask(TASKS[:1])

    assert (stable.failure, candidate.failure) == ("", "ConnectError")


def test_nothing_is_waited_for_beyond_the_deadline(server):
    gate = threading.Event()

    def late(number, prompt):
        gate.wait(20)
        return right(number, prompt)

    with Pairs(server(late).url, server().url, setting(deadline_seconds=time.monotonic() + 0.3)) as pairs:
        assert pairs.ask(TASKS) is None
        gate.set()


def test_no_side_has_more_in_flight_than_the_concurrency(server):
    stable, candidate = server(), server()

    with Pairs(candidate.url, stable.url, setting(limits=Limits(3))) as pairs:
        pairs.ask(TASKS)

    assert max(stable.most_running, candidate.most_running) <= 3


def meet(server, requests):
    """Hold an answer back until so many were in flight at once, or for 5 s."""
    end = time.monotonic() + 5
    while server.most_running < requests and time.monotonic() < end:
        time.sleep(0.002)


def test_the_first_round_asks_one_at_a_time_and_the_next_ones_more(server):
    stable = server(lambda number, prompt: meet(stable, 1 if number <= len(TASKS) else 2) or right(number, prompt))

    with Pairs(server().url, stable.url, setting(limits=Limits(4))) as pairs:
        pairs.ask(TASKS)
        first = stable.most_running
        pairs.ask(TASKS)
        second = stable.most_running

    assert (first, second) == (1, 2)


@pytest.mark.parametrize(
    ("metrics", "most"),
    [
        pytest.param(None, 1, id="no gauges"),
        pytest.param(gauges(running=20, cache_usage=0.8), 2, id="little room"),
        pytest.param(gauges(), 4, id="idle"),
    ],
)
def test_stable_is_asked_as_its_gauges_allow(server, metrics, most):
    stable = server(lambda number, prompt: meet(stable, most) or right(number, prompt), metrics=metrics)

    with Pairs(server().url, stable.url, setting(limits=Limits(4))) as pairs:
        pairs.room.pace = Pace(slots=4, usual=(1000.0,))
        pairs.ask(TASKS)

    assert stable.most_running == most
    assert pairs.room.known is (metrics is not None)


def test_nothing_is_asked_while_requests_wait_on_stable(server):
    reads = []

    def queue():
        reads.append(len(stable.bodies))
        return gauges(waiting=1 if len(reads) < 3 else 0)

    stable = server(metrics=queue)
    with Pairs(server().url, stable.url, setting()) as pairs:
        replies = pairs.ask(TASKS[:2])

    assert reads[:3] == [0, 0, 0]
    assert not any(reply.failure for both in replies for reply in both)
    assert pairs.room.waited_seconds > 0


def test_a_queue_beside_our_requests_halves_their_number_once(server):
    waiting = [0, 1, 1, 0]
    stable = server(
        lambda number, prompt: Slow(right(number, prompt), 0.4),
        metrics=lambda: gauges(waiting=waiting.pop(0) if waiting else 0),
    )
    with Pairs(server().url, stable.url, setting(limits=Limits(8))) as pairs:
        pairs.room.pace = Pace(slots=8, usual=(1000.0,))
        pairs.ask(TASKS)

    assert not waiting
    assert pairs.room.pace.slots == 4


def test_a_number_that_was_never_in_flight_does_not_grow(server):
    stable = server(metrics=gauges(running=20, cache_usage=0.8))
    with Pairs(server().url, stable.url, setting(limits=Limits(8))) as pairs:
        pairs.room.pace = Pace(slots=4, usual=(10_000.0,))
        pairs.ask(TASKS)

    assert pairs.room.pace.slots == 4


def test_a_queue_that_stays_ends_at_the_deadline(server):
    stable = server(metrics=gauges(waiting=1))
    with Pairs(server().url, stable.url, setting(deadline_seconds=time.monotonic() + 0.5)) as pairs:
        assert pairs.ask(TASKS[:2]) is None

    assert not stable.bodies


def test_a_busy_machine_takes_no_times_and_blames_nobody(server, monkeypatch):
    monkeypatch.setattr(Stream, "feed", _sleepy(Stream.feed))
    with Pairs(server().url, server().url, setting()) as pairs:
        ((stable, candidate),) = pairs.ask(TASKS[:1])

    assert (stable.text, candidate.text) == (TASKS[0].answer, TASKS[0].answer)
    assert all(each.ttft_ms is each.total_ms is each.itl_ms is None for each in (stable, candidate))
    assert pairs.unmeasured == 1


def _sleepy(feed):
    def slow(*arguments):
        time.sleep(0.2)
        feed(*arguments)

    return slow


def test_neither_side_is_always_asked_first(server):
    order = []
    stable = server(lambda *asked: order.append("stable") or right(*asked))
    candidate = server(lambda *asked: order.append("candidate") or right(*asked))

    with Pairs(candidate.url, stable.url, setting(limits=Limits(1))) as pairs:
        pairs.ask(TASKS)

    firsts = set(order[::2])
    assert firsts == {"stable", "candidate"}


def test_the_pauses_grow_while_stable_answers_nothing(server, monkeypatch):
    pauses = []
    monkeypatch.setattr("llm_rollout.adapters.pairs.time.sleep", pauses.append)
    stable = server(lambda number, prompt: right(number, prompt) if number in (3, 6) else Fault("500"))
    with Pairs(server().url, stable.url, setting()) as pairs:
        for _ in range(6):
            pairs.ask(TASKS[:1])

    assert pauses == [1.0, 2.0, 1.0, 2.0]


def test_messages_are_asked_as_a_chat(server):
    candidate = server()
    chat = Task("chat", "3", messages=({"role": "user", "content": "1+2="},), max_tokens=3, stop=())

    with Pairs(candidate.url, None, setting()) as pairs:
        (reply,) = pairs.ask_candidate([chat])

    assert reply.text == "3"
    assert candidate.bodies[0]["max_tokens"] == 3
    assert "stop" not in candidate.bodies[0]


def test_a_candidate_that_was_never_reached_was_not_measured(server):
    with Pairs(nobody(), server().url, setting()) as pairs, pytest.raises(Transient, match="nothing was compared"):
        pairs.check()


@pytest.mark.parametrize("side", ["candidate", "stable"])
def test_a_server_of_another_model_is_named(server, side):
    models = {"candidate": "tiny", "stable": "tiny"} | {side: "huge"}
    servers = {name: server(model=model).url for name, model in models.items()}
    with (
        Pairs(servers["candidate"], servers["stable"], setting()) as pairs,
        pytest.raises(Permanent, match=f"{side} at .* serves huge, not tiny"),
    ):
        pairs.check()


def test_a_dead_stable_is_not_the_adapters_matter(server):
    with Pairs(server().url, nobody(), setting()) as pairs:
        pairs.check()


@pytest.mark.parametrize("address", ["leader:8000", "http://[", "http://leader:port", "http://", ""])
def test_what_is_no_address_is_refused(address):
    with pytest.raises(Permanent, match="write http://HOST:PORT"):
        Pairs(address, None, setting())
