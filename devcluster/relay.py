"""Join two TCP connections: from this machine into the cluster's network, and from a Service to its pods."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable, Coroutine

CHUNK_BYTES = 1 << 18
CONNECT_TIMEOUT_SECONDS = 5.0
"""Pods and Services are on this machine: a connect that takes longer goes to an address nobody has."""
BACKLOG = 1024

Target = tuple[str, int]
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def forward(client: Connection, target: Target | None) -> None:
    """Carry bytes both ways until both sides have ended; without a reachable target the client sees a reset.

    Each direction ends by itself (half-close), and a reset on one side resets the other: a dropped stream
    must look dropped, never like an early end.
    """
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
            server = await asyncio.open_connection(*target) if target else None
    except OSError:  # TimeoutError among them
        server = None
    if server is None:
        reset(client[1])
        return
    await joined(client, server, pump(server[0], client[1]))


async def joined(client: Connection, server: Connection, answering: Coroutine[None, None, None]) -> None:
    """Carry the client's bytes to the server beside ``answering``, until both have ended; see ``forward``."""
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(pump(client[0], server[1]))
            group.create_task(answering)
    except* OSError:
        reset(client[1])
        reset(server[1])
    finally:
        client[1].close()
        server[1].close()


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Carry bytes one way until they end, and say so."""
    while data := await reader.read(CHUNK_BYTES):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()


def reset(writer: asyncio.StreamWriter) -> None:
    """End the connection so that the other side sees a reset, not an end of data."""
    with contextlib.suppress(OSError):
        raw: socket.socket = writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class Listener:
    """Accepts on one socket and forwards each connection to what ``choose`` names at that moment."""

    def __init__(self, choose: Callable[[], Target | None]) -> None:
        self._choose = choose
        self._server: asyncio.Server | None = None

    async def listen(self, where: Target | socket.socket) -> None:
        """Begin to accept at an address or on a socket that listens already. Raises OSError."""
        if isinstance(where, socket.socket):
            self._server = await asyncio.start_server(self._accept, sock=where, backlog=BACKLOG)
        else:
            self._server = await asyncio.start_server(self._accept, *where, backlog=BACKLOG)

    def close(self) -> None:
        """Refuse new connections; open ones go on."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await forward((reader, writer), self._choose())
