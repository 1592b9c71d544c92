from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from devcluster.node.probes import Prober

Answer = tuple[bool, str]


def prober(*answers: bool, ports: list[dict[str, Any]] | None = None) -> tuple[Prober, list[list[str]]]:
    """One whose exec probes find ``answers`` one after the other, and the commands that it ran."""
    left, asked = iter(answers), []

    async def run(command: list[str], _: float) -> Answer:
        asked.append(command)
        passed = next(left)
        return passed, "" if passed else f"try {len(asked)}"

    return Prober({"ports": ports or []}, "127.0.0.1", run), asked


def probe(**fields: int) -> dict[str, Any]:
    return {"exec": {"command": ["check"]}, "periodSeconds": 0.001, **fields}


def test_a_failure_needs_as_many_in_a_row_as_the_threshold_says() -> None:
    found, asked = prober(False, True, False, False)
    assert asyncio.run(found.until_changed(probe(failureThreshold=2), passing=True)) == "try 4"
    assert len(asked) == 4


def test_a_success_needs_as_many_in_a_row_as_the_threshold_says() -> None:
    found, asked = prober(True, False, True, True)
    asyncio.run(found.until_changed(probe(successThreshold=2), passing=False))
    assert len(asked) == 4


def test_the_thresholds_are_those_of_kubernetes_where_none_are_given() -> None:
    found, asked = prober(False, False, False, True)
    asyncio.run(found.until_changed(probe(), passing=True))
    assert len(asked) == 3
    asyncio.run(found.until_changed(probe(), passing=False))
    assert len(asked) == 4


def test_a_startup_probe_ends_with_its_first_success() -> None:
    found, asked = prober(False, False, True)
    told: list[str] = []
    assert asyncio.run(found.startup(probe(failureThreshold=5), told.append)) is None
    assert len(asked) == 3
    assert told == ["try 1"]


def test_a_startup_probe_tells_its_last_failure() -> None:
    found, asked = prober(False, False)
    assert asyncio.run(found.startup(probe(failureThreshold=2), print)) == "try 2"
    assert len(asked) == 2


def test_the_last_failure_of_a_startup_probe_is_told_without_another_period() -> None:
    found, _ = prober(False)
    patient = probe(failureThreshold=1) | {"periodSeconds": 60}
    assert asyncio.run(asyncio.wait_for(found.startup(patient, print), 10)) == "try 1"


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def ask(action: dict[str, Any], reply: bytes | None = None, **container: Any) -> Answer:
    """What a probe finds at a server that says ``reply`` to everything."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(reply or b"")
        writer.close()
        await writer.wait_closed()

    async def probing() -> Answer:
        async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            ports = [{"name": "http", "containerPort": port}]
            found = Prober({"ports": ports, **container}, "127.0.0.1", _never)
            return await found.passes({**action, "timeoutSeconds": 5})

    return asyncio.run(probing())


async def _never(*_: Any) -> Answer:
    raise AssertionError


HTTP = {"httpGet": {"port": "http", "path": "/health"}}


def test_an_http_probe_passes_from_200_to_399() -> None:
    answers = {status: ask(HTTP, f"HTTP/1.1 {status} Any\r\n\r\n".encode()) for status in (200, 204, 302, 400, 503)}
    assert [status for status, (passed, _) in answers.items() if passed] == [200, 204, 302]
    assert answers[503][1] == "HTTP probe failed with statuscode: 503"


@pytest.mark.parametrize(
    ("reply", "said"), [(b"", "without an answer"), (b"SSH-2.0 x\r\n", "no HTTP answer"), (b"x" * 70_000, "cannot be")]
)
def test_something_that_does_not_speak_http_fails_the_probe(reply: bytes, said: str) -> None:
    passed, message = ask(HTTP, reply)
    assert not passed
    assert said in message


def test_a_tcp_probe_passes_when_somebody_listens(listener: socket.socket) -> None:
    found, _ = prober()
    port = listener.getsockname()[1]
    assert asyncio.run(found.passes({"tcpSocket": {"port": port}}))[0]
    listener.close()
    passed, message = asyncio.run(found.passes({"tcpSocket": {"port": port}}))
    assert not passed
    assert message == f"dial tcp 127.0.0.1:{port}: connect: connection refused"


def test_a_silent_server_fails_the_probe_after_its_timeout(listener: socket.socket) -> None:
    found, _ = prober()
    silent = {"httpGet": {"port": listener.getsockname()[1]}, "timeoutSeconds": 0.1}
    asked = f'Get "http://127.0.0.1:{silent["httpGet"]["port"]}/": '
    assert asyncio.run(found.passes(silent)) == (
        False,
        f"{asked}context deadline exceeded (Client.Timeout exceeded while awaiting headers)",
    )


@pytest.mark.parametrize("action", [{"tcpSocket": {"port": "nosuch"}}, {"grpc": {"port": 1}}])
def test_a_probe_that_cannot_be_done_fails_with_a_reason(action: dict[str, Any]) -> None:
    found, _ = prober()
    passed, message = asyncio.run(found.passes(action))
    assert not passed
    assert "cannot be done" in message


def test_an_exec_probe_keeps_its_time_itself() -> None:
    given: list[float] = []

    async def run(_: list[str], seconds: float) -> Answer:
        given.append(seconds)
        await asyncio.sleep(0.05)
        return False, "ended by the container's side"

    found = Prober({}, "127.0.0.1", run)
    assert asyncio.run(found.passes(probe() | {"timeoutSeconds": 0.01})) == (False, "ended by the container's side")
    assert given == [0.01]
