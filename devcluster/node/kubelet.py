"""The kubelets' HTTPS side: what ``kubectl logs`` reads, on every node's own address."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from aiohttp import web

from devcluster.layout import KUBELET_PORT, Layout, node_address

FOLLOW_SECONDS = 0.2
_CHUNK_BYTES = 1 << 16


class Pods(Protocol):
    """What the kubelets know of the pods of all nodes."""

    def log_folder(self, namespace: str, pod: str) -> Path | None:
        """Where its containers' logs lie; None when there is no such pod."""

    def runs(self, namespace: str, pod: str, container: str) -> bool:
        """Whether the container's process exists."""


class Kubelet:
    """Serves the logs of all pods; a node that plays dead does not answer."""

    def __init__(self, layout: Layout, nodes: Sequence[str], pods: Pods) -> None:
        self._layout = layout
        self._nodes = nodes
        self._pods = pods

    async def start(self, *routes: web.RouteDef) -> None:
        """Listen on every node's address, for ``routes`` as well."""
        app = web.Application()
        app.router.add_routes(routes)
        app.router.add_get("/containerLogs/{namespace}/{pod}/{container}", self._logs)
        app.router.add_get("/healthz", self._healthz)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self._layout.certificate("kubelet"), self._layout.key("kubelet"))
        for node in self._nodes:
            await web.TCPSite(runner, node_address(node), KUBELET_PORT, ssl_context=context).start()

    async def _healthz(self, _: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def _logs(self, request: web.Request) -> web.StreamResponse:
        match = request.match_info
        folder = self._pods.log_folder(match["namespace"], match["pod"])
        logs = _runs(folder / match["container"]) if folder else []
        previous = request.query.get("previous") == "true"
        if not logs or (previous and len(logs) < 2):  # noqa: PLR2004 - a previous log needs a current one
            text = "previous terminated" if previous else "waiting to start"
            return web.Response(status=400, text=f"container {match['container']!r} in pod {match['pod']!r}: {text}")
        log = logs[-2] if previous else logs[-1]
        reply = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await reply.prepare(request)
        position = _start(log, request.query.get("tailLines"))
        limit = int(request.query.get("limitBytes") or 1 << 62)
        follow = request.query.get("follow") == "true" and not previous

        def grows() -> bool:
            return follow and log in _runs(log.parent)[-1:] and self._pods.runs(**match)

        with contextlib.suppress(ConnectionResetError):
            await _copy(log, reply, position, limit, grows)
            await reply.write_eof()
        return reply


async def _copy(log: Path, reply: web.StreamResponse, position: int, limit: int, grows: Callable[[], bool]) -> None:
    with log.open("rb") as file:
        file.seek(position)
        while limit > 0:
            # Asked before reading: what a process wrote last is there before its end can be seen.
            more = grows()
            data = file.read(min(_CHUNK_BYTES, limit))
            if data:
                limit -= len(data)
                await reply.write(data)
            elif more:
                await asyncio.sleep(FOLLOW_SECONDS)
            else:
                return


def _runs(folder: Path) -> list[Path]:
    """The logs of a container, oldest run first."""
    return sorted(folder.glob("*.log"), key=lambda path: int(path.stem)) if folder.is_dir() else []


def _start(log: Path, tail: str | None) -> int:
    """The offset at which the last ``tail`` lines begin."""
    size = log.stat().st_size
    if not tail:
        return 0
    wanted, position = int(tail), size
    with log.open("rb") as file:
        block = b""
        while position > 0 and block[:-1].count(b"\n") < wanted:
            step = min(_CHUNK_BYTES, position)
            position -= step
            file.seek(position, os.SEEK_SET)
            block = file.read(step) + block
    lines = block.splitlines(keepends=True)
    return size - sum(len(line) for line in lines[len(lines) - wanted :]) if wanted < len(lines) else position
