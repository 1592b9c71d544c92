"""One model server over HTTP: what it serves, how full it is, and one streamed answer."""

from __future__ import annotations

import errno
import time
from typing import Any
from urllib.parse import urlsplit

import httpx

from llm_rollout.canary import back_pressure
from llm_rollout.canary.back_pressure import Load
from llm_rollout.canary.rotation import Reply
from llm_rollout.canary.streams import Stream
from llm_rollout.canary.task_set import Task
from llm_rollout.errors import Permanent, Transient

CONNECT_SECONDS = 5.0
IDLE_SECONDS = 2.0
"""Connections idle for longer are opened anew: servers close them after 5 s, which would look like a failure."""
_OURS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EADDRNOTAVAIL)


def client(address: str, connections: int) -> httpx.AsyncClient:
    """Connections to the server at a root address, opened when they are needed.

    Raises:
        Permanent: It is no address.
    """
    if not _is_address(address):
        raise Permanent(f"{address!r} is no address of a model server: write http://HOST:PORT")
    limits = httpx.Limits(max_connections=connections, keepalive_expiry=IDLE_SECONDS)
    timeout = httpx.Timeout(None, connect=CONNECT_SECONDS)
    return httpx.AsyncClient(base_url=address.rstrip("/"), limits=limits, timeout=timeout, trust_env=False)


def request(task: Task, model: str, max_tokens: int) -> tuple[str, dict[str, Any]]:
    """Path and body. The usage in the last event counts tokens, where pieces of text may hold several."""
    body: dict[str, Any] = {
        "model": model,
        "max_tokens": task.max_tokens or max_tokens,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if task.stop:
        body["stop"] = list(task.stop)
    if task.prompt is None:
        return "/v1/chat/completions", body | {"messages": [dict(message) for message in task.messages]}
    return "/v1/completions", body | {"prompt": task.prompt}


async def streamed(server: httpx.AsyncClient, path: str, body: dict[str, Any], began: float) -> Reply:
    """The whole answer, or why there is none; ``began`` is of ``time.perf_counter``."""
    stream = Stream(began)
    async with server.stream("POST", path, json=body) as reply:
        if reply.status_code != httpx.codes.OK:
            return Reply(total_ms=1000 * (time.perf_counter() - began), failure=f"status {reply.status_code}")
        async for data in reply.aiter_bytes():
            stream.feed(data, time.perf_counter())
    return stream.reply(time.perf_counter())


async def models(server: httpx.AsyncClient) -> list[str] | None:
    """The names that a server has; None where it is not reached, none where it does not say."""
    try:
        reply = await server.get("/v1/models", timeout=CONNECT_SECONDS)
    except httpx.RequestError as error:
        raise_if_ours(error)
        return None
    try:
        return [str(card["id"]) for card in reply.json()["data"]]
    except (ValueError, KeyError, TypeError):
        return []


async def load(server: httpx.AsyncClient) -> Load | None:
    """How full a server is; None where it does not say."""
    try:
        reply = await server.get("/metrics", timeout=CONNECT_SECONDS)
    except httpx.RequestError as error:
        raise_if_ours(error)
        return None
    return back_pressure.load(reply.text) if reply.status_code == httpx.codes.OK else None


def raise_if_ours(error: BaseException) -> None:
    """Tell what this machine is short of from what the model server did.

    Raises:
        Transient: This machine could not ask.
    """
    cause: BaseException | None = error
    while cause:
        if isinstance(cause, OSError) and cause.errno in _OURS:
            raise Transient(f"this machine cannot ask: {cause.strerror}; ask with less concurrency") from error
        cause = cause.__cause__ or cause.__context__


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
