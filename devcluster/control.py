"""Commands to a running devcluster: one JSON line each way over a unix socket, listening sockets along with it."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

MAX_REQUEST_BYTES = 1 << 16
MAX_SOCKETS = 4
TIMEOUT_SECONDS = 10.0

Handler = Callable[[dict[str, Any], list[socket.socket]], Awaitable[dict[str, Any]]]


class NotRunningError(Exception):
    """No devcluster answers at this home."""


def ask(path: Path, request: dict[str, Any], sockets: list[socket.socket] | None = None) -> dict[str, Any]:
    """Send one command, handing over ``sockets``, and return the answer.

    Raises NotRunningError, and ValueError with the supervisor's own words when it refuses.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(TIMEOUT_SECONDS)
        try:
            connection.connect(str(path))
            line = json.dumps(request).encode() + b"\n"
            socket.send_fds(connection, [line], [sock.fileno() for sock in sockets or ()])
            reply: dict[str, Any] = json.loads(connection.makefile().readline() or "null")
        except (OSError, ValueError) as error:
            raise NotRunningError(f"no devcluster answers at {path.parent}: start it with `devcluster up`") from error
    if reply is None:
        raise NotRunningError(f"the devcluster at {path.parent} is just ending")
    if "error" in reply:
        raise ValueError(reply["error"])
    return reply


def serve(path: Path, handler: Handler, loop: asyncio.AbstractEventLoop) -> None:
    """Answer commands in a thread of its own; ``handler`` runs in ``loop``."""
    path.unlink(missing_ok=True)
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    server.bind(str(path))
    server.listen()
    threading.Thread(target=_accept, args=(server, handler, loop), name="control", daemon=True).start()


def _accept(server: socket.socket, handler: Handler, loop: asyncio.AbstractEventLoop) -> None:
    while True:
        connection, _ = server.accept()
        with connection:
            connection.settimeout(TIMEOUT_SECONDS)
            try:
                _answer(connection, handler, loop)
            except (OSError, TimeoutError):
                continue


def _answer(connection: socket.socket, handler: Handler, loop: asyncio.AbstractEventLoop) -> None:
    """Read what arrives in one piece: requests are small and written in one call."""
    line, descriptors, _, _ = socket.recv_fds(connection, MAX_REQUEST_BYTES, MAX_SOCKETS)
    sockets = [socket.socket(fileno=descriptor) for descriptor in descriptors]
    try:
        request = json.loads(line)
        reply = asyncio.run_coroutine_threadsafe(_run(handler, request, sockets), loop).result(TIMEOUT_SECONDS)
    except ValueError as error:
        reply = {"error": str(error)}
    connection.sendall(json.dumps(reply).encode() + b"\n")


async def _run(handler: Handler, request: dict[str, Any], sockets: list[socket.socket]) -> dict[str, Any]:
    return await handler(request, sockets)
