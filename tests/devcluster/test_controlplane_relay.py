from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import TypeVar

import pytest

from devcluster.relay import Listener, Target, reset
from devcluster.services import Forwarder

T = TypeVar("T")
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def drive(work: Coroutine[None, None, T]) -> T:
    """Run ``work``, then let every connection it opened finish closing."""

    async def run() -> T:
        result = await work
        connections = asyncio.all_tasks() - {asyncio.current_task()}
        if connections:
            _, unfinished = await asyncio.wait(connections, timeout=30)
            assert not unfinished, "a forwarded connection outlives both its ends"
        for _ in range(5):
            await asyncio.sleep(0)
        return result

    return asyncio.run(run())


@asynccontextmanager
async def server(serve: Serve) -> AsyncIterator[Target]:
    running = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=1024)
    try:
        yield running.sockets[0].getsockname()[:2]
    finally:
        running.close()


async def free_address() -> Target:
    async with server(_echo) as address:
        return address


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.close()
    await writer.wait_closed()


async def _count_then_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"%d" % len(await reader.read()))
    writer.close()


async def _half_an_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readexactly(1)
    writer.write(b"half")
    await writer.drain()
    await reader.readexactly(1)
    reset(writer)


@asynccontextmanager
async def relayed(choose: Callable[[], Target | None]) -> AsyncIterator[Target]:
    address, listener = await free_address(), Listener(choose)
    await listener.listen(address)
    try:
        yield address
    finally:
        listener.close()


def test_the_answer_arrives_after_the_client_has_ended_its_side() -> None:
    async def run() -> bytes:
        async with server(_count_then_answer) as target, relayed(lambda: target) as address:
            reader, writer = await asyncio.open_connection(*address)
            writer.write(b"x" * 5_000_000)
            writer.write_eof()
            answer = await reader.read()
            writer.close()
            return answer

    assert drive(run()) == b"5000000"


def test_a_reset_of_the_server_reaches_the_client_as_a_reset() -> None:
    async def run() -> None:
        async with server(_half_an_answer) as target, relayed(lambda: target) as address:
            reader, writer = await asyncio.open_connection(*address)
            writer.write(b"1")
            assert await reader.readexactly(4) == b"half"
            writer.write(b"2")
            with pytest.raises(ConnectionResetError):
                await reader.read()
            writer.close()

    drive(run())


def test_a_target_that_refuses_is_a_reset() -> None:
    async def run() -> None:
        nobody = await free_address()
        async with relayed(lambda: nobody) as address:
            reader, writer = await asyncio.open_connection(*address)
            with pytest.raises(ConnectionResetError):
                await reader.read()
            writer.close()

    drive(run())


def test_hundreds_of_streams_at_once_lose_no_byte() -> None:
    async def one(address: Target, number: int) -> bool:
        reader, writer = await asyncio.open_connection(*address)
        sent = b"%05d" % number * 2000
        for start in range(0, len(sent), 1000):
            writer.write(sent[start : start + 1000])
            await writer.drain()
        writer.write_eof()
        received = await reader.read()
        writer.close()
        await writer.wait_closed()
        return received == sent

    async def run() -> list[bool]:
        async with server(_echo) as target, relayed(lambda: target) as address:
            return await asyncio.gather(*(one(address, number) for number in range(300)))

    assert all(drive(run()))


def _named(name: bytes) -> Serve:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(1):
            writer.write(name)
        writer.close()

    return serve


async def _say(connection: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> bytes:
    connection[1].write(b"?")
    return await connection[0].readexactly(1)


def test_new_connections_follow_the_new_endpoints_and_open_ones_stay() -> None:
    async def run() -> None:
        async with server(_named(b"a")) as old, server(_named(b"b")) as new:
            forwarder, address = Forwarder(), await free_address()
            await forwarder.apply({address: (old,)})
            first = await asyncio.open_connection(*address)
            assert await _say(first) == b"a"
            await forwarder.apply({address: (new,)})
            second = await asyncio.open_connection(*address)
            assert await _say(second) == b"b"
            await forwarder.apply({address: ()})
            assert (await _say(first), await _say(second)) == (b"a", b"b")
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection(*address)
            await forwarder.apply({address: (old,)})
            third = await asyncio.open_connection(*address)
            assert await _say(third) == b"a"
            for _, writer in (first, second, third):
                writer.close()
            await forwarder.apply({})

    drive(run())


def test_connections_go_round_the_endpoints() -> None:
    async def run() -> list[bytes]:
        async with server(_named(b"a")) as one, server(_named(b"b")) as other:
            forwarder, address = Forwarder(), await free_address()
            await forwarder.apply({address: (one, other)})
            connections = [await asyncio.open_connection(*address) for _ in range(4)]
            answers = [await _say(connection) for connection in connections]
            for _, writer in connections:
                writer.close()
            await forwarder.apply({})
            return answers

    assert sorted(drive(run())) == [b"a", b"a", b"b", b"b"]
