"""The kubelets' HTTPS side: what ``kubectl logs`` reads, on every node's own address."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import ssl
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

from aiohttp import web

from devcluster.layout import KUBELET_PORT, Layout, node_address
from devcluster.node import log_files

FOLLOW_SECONDS = 0.2
_CHUNK_BYTES = 1 << 16
_NANOSECONDS = 1_000_000_000


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
        logs = log_files.runs(folder / match["container"]) if folder else []
        previous = request.query.get("previous") == "true"
        if not logs or (previous and len(logs) < 2):  # noqa: PLR2004 - a previous log needs a current one
            text = "previous terminated" if previous else "waiting to start"
            return web.Response(status=400, text=f"container {match['container']!r} in pod {match['pod']!r}: {text}")
        log = logs[-2] if previous else logs[-1]
        wanted = Wanted.of(request.query, time.time_ns())
        reply = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await reply.prepare(request)

        def grows() -> bool:
            follow = wanted.follow and not previous
            return follow and log in log_files.runs(log.parent)[-1:] and self._pods.runs(**match)

        with contextlib.suppress(ConnectionResetError):
            await _copy(log, reply, wanted, grows)
            await reply.write_eof()
        return reply


@dataclass(frozen=True)
class Wanted:
    """Which part of a log was asked for, and in which form."""

    lines: int | None = None
    """The last so many."""
    limit_bytes: int = 1 << 62
    """Of the reply, time stamps included."""
    since_nanoseconds: int = 0
    """Only lines from then on; since the epoch."""
    timestamps: bool = False
    follow: bool = False

    @classmethod
    def of(cls, query: Mapping[str, str], now_nanoseconds: int) -> Self:
        """Read what the API server hands on of a PodLogOptions."""
        lines, limit, since = query.get("tailLines"), query.get("limitBytes"), query.get("sinceTime")
        begin = 0
        if since:
            begin = int(dt.datetime.fromisoformat(since).timestamp()) * _NANOSECONDS
        elif seconds := query.get("sinceSeconds"):
            begin = now_nanoseconds - int(seconds) * _NANOSECONDS
        return cls(
            lines=int(lines) if lines else None,
            limit_bytes=int(limit) if limit else cls.limit_bytes,
            since_nanoseconds=begin,
            timestamps=query.get("timestamps") == "true",
            follow=query.get("follow") == "true",
        )

    def start(self, log: Path) -> int:
        """The offset at which it begins."""
        return 0 if self.lines is None else log_files.tail_start(log, self.lines)

    def shown(self, lines: Iterable[tuple[int, bytes]]) -> bytes:
        """What a reader gets of these lines."""
        kept = ((stamp, line) for stamp, line in lines if stamp >= self.since_nanoseconds)
        return b"".join(log_files.stamp(stamp) + line if self.timestamps else line for stamp, line in kept)

    @property
    def bare(self) -> bool:
        """Whether bytes are wanted as they came, so that lines and their times do not matter."""
        return not self.timestamps and not self.since_nanoseconds


async def _copy(log: Path, reply: web.StreamResponse, wanted: Wanted, grows: Callable[[], bool]) -> None:
    start, left = wanted.start(log), wanted.limit_bytes
    lines = log_files.Lines(log, start)
    more = True
    with log.open("rb") as file:
        file.seek(start)
        while more and left > 0:
            # Asked before reading: what a process wrote last is there before its end can be seen.
            growing = grows()
            data = file.read(_CHUNK_BYTES)
            more = bool(data) or growing
            piece = data if wanted.bare else wanted.shown(lines.add(data) if more else lines.rest())
            if piece:
                await reply.write(piece[:left])
                left -= len(piece)
            elif more and not data:
                await asyncio.sleep(FOLLOW_SECONDS)
