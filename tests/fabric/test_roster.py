import socket
import threading
import time
from contextlib import closing

import pytest

from llm_rollout.fabric import roster as module
from llm_rollout.fabric.inventory import Member
from llm_rollout.fabric.roster import LostError, Roster
from llm_rollout.fabric.tools import Run
from llm_rollout.fabric.wire import Wire

HELLO = {"hello": 1, "node": "node-2", "ports": {}, "error": ""}


@pytest.fixture
def roster():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with Roster("127.0.0.1", port, 2) as opened:
        opened.port = port
        yield opened


def _connect(roster, hello):
    connection = socket.create_connection(("127.0.0.1", roster.port), timeout=30)
    wire = Wire(connection)
    if isinstance(hello, bytes):
        connection.sendall(hello)
    else:
        wire.send(hello)
    return wire


def _gather(roster, seconds=0.3):
    seen = []
    roster.gather(time.monotonic() + seconds, lambda member, _: seen.append(member.node))
    return seen


@pytest.mark.parametrize(
    "hello",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xff\xfe\n",
        b"[1]\n",
        {"hello": 7, "node": "x", "ports": {}, "error": ""},
        {"hello": 1},
    ],
)
def test_strangers_are_not_members(roster, hello):
    with closing(_connect(roster, hello)) as wire:
        assert _gather(roster) == []
        assert wire.receive() is None


def test_member_is_announced_with_what_it_said(roster):
    with closing(_connect(roster, HELLO)):
        assert _gather(roster) == ["node-2"]
        assert roster.ever_joined() == {1: Member("node-2", {})}


def test_newcomer_after_the_doors_are_closed_is_sent_home(roster):
    roster.close_doors()
    with closing(_connect(roster, HELLO)) as wire:
        assert wire.receive() == {"do": "end"}
    assert roster.ever_joined() == {}


def test_silent_member_is_lost_and_stays_lost(roster, monkeypatch):
    monkeypatch.setattr(module, "_MARGIN_SECONDS", -19.9)
    with closing(_connect(roster, HELLO)):
        _gather(roster)
        task = roster.get(1).start(Run("latency", "mlx5_0", 1, 1))
        with pytest.raises(LostError):
            task.wait_listening()
        assert roster.get(1) is None


def test_task_of_a_member_that_hangs_up_is_lost_at_once(roster):
    wire = _connect(roster, HELLO)
    _gather(roster)
    task = roster.get(1).start(Run("latency", "mlx5_0", 1, 1))
    threading.Timer(0.1, wire.close).start()
    with pytest.raises(LostError):
        task.output()


def test_server_that_does_not_end_is_stopped_after_its_grace(roster):
    with closing(_connect(roster, HELLO)) as wire:
        _gather(roster)
        task = roster.get(1).start(Run("latency", "mlx5_0", 1, 1))
        number = wire.receive()["id"]
        wire.send({"id": number, "state": "listening"})
        assert task.wait_listening()
        threading.Thread(target=_answer_stop, args=(wire, number)).start()
        assert task.output(grace_seconds=0.05).exit_code is None


def _answer_stop(wire, number):
    assert wire.receive() == {"do": "stop", "id": number}
    wire.send({"id": number, "state": "done", "output": {"exit_code": None, "stdout": "", "stderr": ""}})
