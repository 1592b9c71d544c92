"""Asks stable and the candidate the same things at the same time, as users do: over HTTP, streaming."""

from __future__ import annotations

import asyncio
import errno
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

import httpx

from llm_rollout.canary.rotation import Reply
from llm_rollout.canary.streams import Stream
from llm_rollout.canary.task_set import Task
from llm_rollout.errors import Permanent, Transient

REQUEST_SECONDS = 60.0
"""A task takes a few tokens; what takes a minute has failed its user."""
CONNECT_SECONDS = 5.0
IDLE_SECONDS = 2.0
"""Connections idle for longer are opened anew: servers close them after 5 s, which would look like a failure."""
REACH_SECONDS = 10.0
_AGAIN_SECONDS = 0.5
_PAUSE_SECONDS = 1.0
"""Before the next round when stable answers nothing: it may be restarting."""
_OURS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EADDRNOTAVAIL)
_T = TypeVar("_T")


@dataclass(frozen=True)
class Setting:
    """How to ask."""

    model: str
    max_tokens: int
    concurrency: int
    """Requests in flight to each side."""
    deadline_seconds: float
    """Of ``time.monotonic``; nothing is waited for beyond it."""
    seed: int
    request_seconds: float = REQUEST_SECONDS
    reach_seconds: float = REACH_SECONDS
    """How long the candidate may take to be reached at all, before the first request."""


class Pairs:
    """Both model servers, for one comparison. Without stable, only the candidate can be asked."""

    def __init__(self, candidate: str, stable: str | None, setting: Setting) -> None:
        """Take the servers' root addresses."""
        self._setting = setting
        self._order = random.Random(setting.seed)  # noqa: S311 - not a secret
        self._runner = asyncio.Runner()
        self._candidate = _client(candidate, setting)
        self._stable = _client(stable, setting) if stable else None

    def __enter__(self) -> Self:
        """Nothing is opened before the first request."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close all connections."""
        self._runner.run(self._close())
        self._runner.close()

    def check(self) -> None:
        """See that the candidate is there and that both sides serve the model. A dead stable is the judge's matter.

        Raises:
            Transient: The candidate is not reached: then it was not measured either.
            Permanent: A server is there and serves other models.
        """
        names = self._runner.run(self._reach(self._candidate))
        self._served("candidate", self._candidate, names)
        if self._stable:
            self._served("stable", self._stable, self._runner.run(_models(self._stable)))

    def ask(self, tasks: Sequence[Task]) -> list[tuple[Reply, Reply]] | None:
        """Ask both sides every task, in random order; the replies as (stable, candidate), None past the deadline."""
        replies = self._in_time(self._slots([partial(self._both, task) for task in tasks]))
        if replies and all(stable.failure for stable, _ in replies):
            time.sleep(_PAUSE_SECONDS)
        return replies

    def ask_candidate(self, tasks: Sequence[Task]) -> list[Reply] | None:
        """Ask the candidate alone; None past the deadline."""
        return self._in_time(self._slots([partial(self._one, self._candidate, task) for task in tasks]))

    def _in_time(self, work: Awaitable[list[_T]]) -> list[_T] | None:
        async def limited() -> list[_T] | None:
            try:
                async with asyncio.timeout_at(self._setting.deadline_seconds):
                    return await work
            except TimeoutError:
                return None

        return self._runner.run(limited())

    async def _slots(self, requests: Sequence[Callable[[], Awaitable[_T]]]) -> list[_T]:
        """Run so many at a time. A pair keeps its slot until both sides have ended, so both carry the same load."""
        free = asyncio.Semaphore(self._setting.concurrency)

        async def in_slot(request: Callable[[], Awaitable[_T]]) -> _T:
            async with free:
                return await request()

        try:
            async with asyncio.TaskGroup() as group:
                running = [group.create_task(in_slot(request)) for request in requests]
        except* Transient as all_of_them:
            raise all_of_them.exceptions[0] from None
        return [each.result() for each in running]

    async def _both(self, task: Task) -> tuple[Reply, Reply]:
        assert self._stable  # noqa: S101 - tells the type checker what the caller promised
        if self._order.random() < 0.5:  # noqa: PLR2004 - a coin
            stable, candidate = await asyncio.gather(self._one(self._stable, task), self._one(self._candidate, task))
        else:
            candidate, stable = await asyncio.gather(self._one(self._candidate, task), self._one(self._stable, task))
        return stable, candidate

    async def _one(self, client: httpx.AsyncClient, task: Task) -> Reply:
        began = time.perf_counter()
        try:
            async with asyncio.timeout(self._setting.request_seconds):
                return await _streamed(client, *_request(task, self._setting), began)
        except TimeoutError:
            failure = f"no end after {self._setting.request_seconds:g} s"
        except httpx.RequestError as error:
            _raise_if_ours(error)
            failure = type(error).__name__
        return Reply(total_ms=1000 * (time.perf_counter() - began), failure=failure)

    async def _reach(self, client: httpx.AsyncClient) -> list[str] | None:
        end = min(time.monotonic() + self._setting.reach_seconds, self._setting.deadline_seconds)
        while (names := await _models(client)) is None:
            if time.monotonic() >= end:
                raise Transient(
                    f"the candidate is not reached at {client.base_url} within {self._setting.reach_seconds:g} s: "
                    "nothing was compared"
                )
            await asyncio.sleep(_AGAIN_SECONDS)
        return names

    def _served(self, side: str, client: httpx.AsyncClient, names: list[str] | None) -> None:
        if names and self._setting.model not in names:
            raise Permanent(
                f"{side} at {client.base_url} serves {', '.join(names)}, not {self._setting.model}: give the served "
                "name of the model"
            )

    async def _close(self) -> None:
        for client in (self._candidate, self._stable):
            if client:
                await client.aclose()


def _client(address: str, setting: Setting) -> httpx.AsyncClient:
    if not _is_address(address):
        raise Permanent(f"{address!r} is no address of a model server: write http://HOST:PORT")
    limits = httpx.Limits(max_connections=setting.concurrency, keepalive_expiry=IDLE_SECONDS)
    timeout = httpx.Timeout(None, connect=CONNECT_SECONDS)
    return httpx.AsyncClient(base_url=address.rstrip("/"), limits=limits, timeout=timeout, trust_env=False)


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _request(task: Task, setting: Setting) -> tuple[str, dict[str, Any]]:
    """Path and body. The usage in the last event counts tokens, where pieces of text may hold several."""
    body: dict[str, Any] = {
        "model": setting.model,
        "max_tokens": task.max_tokens or setting.max_tokens,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if task.stop:
        body["stop"] = list(task.stop)
    if task.prompt is None:
        return "/v1/chat/completions", body | {"messages": [dict(message) for message in task.messages]}
    return "/v1/completions", body | {"prompt": task.prompt}


async def _streamed(client: httpx.AsyncClient, path: str, body: dict[str, Any], began: float) -> Reply:
    stream = Stream(began)
    async with client.stream("POST", path, json=body) as reply:
        if reply.status_code != httpx.codes.OK:
            return Reply(total_ms=1000 * (time.perf_counter() - began), failure=f"status {reply.status_code}")
        async for data in reply.aiter_bytes():
            stream.feed(data, time.perf_counter())
    return stream.reply(time.perf_counter())


async def _models(client: httpx.AsyncClient) -> list[str] | None:
    """The names that a server has; None where it is not reached, none where it does not say."""
    try:
        reply = await client.get("/v1/models", timeout=CONNECT_SECONDS)
    except httpx.RequestError as error:
        _raise_if_ours(error)
        return None
    try:
        return [str(card["id"]) for card in reply.json()["data"]]
    except (ValueError, KeyError, TypeError):
        return []


def _raise_if_ours(error: BaseException) -> None:
    """Tell what this machine is short of from what the model server did."""
    cause: BaseException | None = error
    while cause:
        if isinstance(cause, OSError) and cause.errno in _OURS:
            raise Transient(f"this machine cannot ask: {cause.strerror}; ask with less concurrency") from error
        cause = cause.__cause__ or cause.__context__
