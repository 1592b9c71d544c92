"""Asks stable and the candidate the same things at the same time, as users do: over HTTP, streaming."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from types import TracebackType
from typing import Self, TypeVar

import httpx

from llm_rollout.adapters import completions
from llm_rollout.adapters.event_loop import LoopLag
from llm_rollout.adapters.stable_room import StableRoom
from llm_rollout.canary.back_pressure import Limits, Load
from llm_rollout.canary.rotation import Reply
from llm_rollout.canary.task_set import Task
from llm_rollout.errors import Permanent, Transient

REQUEST_SECONDS = 60.0
"""A task takes a few tokens; what takes a minute has failed its user."""
PATIENCE_FACTOR, PATIENCE_SECONDS = 20.0, 10.0
"""Once one side has answered, the other gets so many times as long, or so long, until it has failed: the same prompt at
the same moment never takes that by chance, and a round must not wait a minute for each answer that stalls."""
REACH_SECONDS = 10.0
_AGAIN_SECONDS = 0.5
_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 1.0, 60.0
"""Before the next round when stable answers nothing, doubled each time: a group that starts again takes its minutes,
and rounds that meet nobody must not use up the pairs that may be asked."""
_GAUGES = 1
"""One connection more than requests: the gauges are read while all others are busy."""
_T = TypeVar("_T")


@dataclass(frozen=True)
class Setting:
    """How to ask."""

    model: str
    max_tokens: int
    limits: Limits
    """What stable can spare; without stable, so many requests are in flight to the candidate."""
    deadline_seconds: float
    """Of ``time.monotonic``; nothing is waited for beyond it."""
    seed: int
    request_seconds: float = REQUEST_SECONDS
    patience_seconds: float = PATIENCE_SECONDS
    """The least that a side gets once the other one has answered."""
    reach_seconds: float = REACH_SECONDS
    """How long the candidate may take to be reached at all, before the first request."""


class Pairs:
    """Both model servers, for one comparison. Without stable, only the candidate can be asked."""

    def __init__(self, candidate: str, stable: str | None, setting: Setting) -> None:
        """Take the servers' root addresses."""
        self._setting = setting
        self._order = random.Random(setting.seed)  # noqa: S311 - not a secret
        self._runner = asyncio.Runner()
        connections = setting.limits.most + _GAUGES
        self._candidate = completions.client(candidate, connections)
        self._stable = completions.client(stable, connections) if stable else None
        self.room = StableRoom(setting.limits, self._load)
        self._pause_seconds = _PAUSE_SECONDS
        self.unmeasured = 0
        """Pairs whose times were not taken because this machine was too busy to read them."""

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
            self._served("stable", self._stable, self._runner.run(completions.models(self._stable)))

    def ask(self, tasks: Sequence[Task]) -> list[tuple[Reply, Reply]] | None:
        """Ask both sides every task, in random order; the replies as (stable, candidate), None past the deadline.

        Replies have no times where this machine was too busy to take them: that is no fault of either side.
        """
        replies = self._in_time(self._round(tasks))
        if replies is None:
            return None
        self.room.learn([stable.ttft_ms for stable, _ in replies if stable.ttft_ms is not None])
        self._pause_seconds = self._paused() if all(stable.failure for stable, _ in replies) else _PAUSE_SECONDS
        return replies

    def ask_candidate(self, tasks: Sequence[Task]) -> list[Reply] | None:
        """Ask the candidate alone; None past the deadline."""
        return self._in_time(self._all([partial(self._alone, task) for task in tasks]))

    def _paused(self) -> float:
        """Wait for stable to come back; how long to wait the next time."""
        time.sleep(max(0.0, min(self._pause_seconds, self._setting.deadline_seconds - time.monotonic())))
        return min(2 * self._pause_seconds, _LONGEST_PAUSE_SECONDS)

    def _in_time(self, work: Awaitable[list[_T]]) -> list[_T] | None:
        async def limited() -> list[_T] | None:
            try:
                async with asyncio.timeout_at(self._setting.deadline_seconds):
                    return await work
            except TimeoutError:
                return None

        return self._runner.run(limited())

    async def _round(self, tasks: Sequence[Task]) -> list[tuple[Reply, Reply]]:
        async with LoopLag() as lag:
            return await self._all([partial(self._both, task, lag) for task in tasks])

    async def _all(self, requests: Sequence[Callable[[], Awaitable[_T]]]) -> list[_T]:
        """Run so many at a time. A pair keeps its slot until both sides have ended, so both carry the same load."""
        free = asyncio.Semaphore(self._setting.limits.most)

        async def in_slot(request: Callable[[], Awaitable[_T]]) -> _T:
            async with free:
                return await request()

        try:
            async with asyncio.TaskGroup() as group:
                running = [group.create_task(in_slot(request)) for request in requests]
        except* Transient as all_of_them:
            raise all_of_them.exceptions[0] from None
        return [each.result() for each in running]

    async def _both(self, task: Task, lag: LoopLag) -> tuple[Reply, Reply]:
        assert self._stable  # noqa: S101 - tells the type checker what the caller promised
        async with self.room.request():
            began, patience = time.perf_counter(), _Patience(self._setting)
            if self._order.random() < 0.5:  # noqa: PLR2004 - a coin
                stable, candidate = await asyncio.gather(
                    self._one(self._stable, task, patience), self._one(self._candidate, task, patience)
                )
            else:
                candidate, stable = await asyncio.gather(
                    self._one(self._candidate, task, patience), self._one(self._stable, task, patience)
                )
        if lag.was_late(began, time.perf_counter()):
            # For both or for neither: which side was read late is chance, and must not look like a difference.
            self.unmeasured += 1
            return _without_times(stable), _without_times(candidate)
        return stable, candidate

    async def _alone(self, task: Task) -> Reply:
        return await self._one(self._candidate, task, _Patience(self._setting))

    async def _one(self, server: httpx.AsyncClient, task: Task, patience: _Patience) -> Reply:
        setting, began = self._setting, time.perf_counter()
        try:
            async with patience.limit():
                path, body = completions.request(task, setting.model, setting.max_tokens)
                reply = await completions.streamed(server, path, body, began)
        except TimeoutError:
            failure = patience.failure
        except httpx.RequestError as error:
            completions.raise_if_ours(error)
            failure = type(error).__name__
        else:
            if not reply.failure:
                patience.answered()
            return reply
        return Reply(total_ms=1000 * (time.perf_counter() - began), failure=failure)

    async def _load(self) -> Load | None:
        return await completions.load(self._stable) if self._stable else None

    async def _reach(self, server: httpx.AsyncClient) -> list[str] | None:
        end = min(time.monotonic() + self._setting.reach_seconds, self._setting.deadline_seconds)
        while (names := await completions.models(server)) is None:
            if time.monotonic() >= end:
                raise Transient(
                    f"the candidate is not reached at {server.base_url} within {self._setting.reach_seconds:g} s: "
                    "nothing was compared"
                )
            await asyncio.sleep(_AGAIN_SECONDS)
        return names

    def _served(self, side: str, server: httpx.AsyncClient, names: list[str] | None) -> None:
        if names and self._setting.model not in names:
            raise Permanent(
                f"{side} at {server.base_url} serves {', '.join(names)}, not {self._setting.model}: give the served "
                "name of the model"
            )

    async def _close(self) -> None:
        for server in (self._candidate, self._stable):
            if server:
                await server.aclose()


class _Patience:
    """How long both requests of a pair may take: a fixed time, and not much longer than the first one that ends."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._began = time.monotonic()
        self._running: set[asyncio.Timeout] = set()
        self.failure = f"no end after {setting.request_seconds:g} s"
        """Why a request that takes longer has failed."""

    @asynccontextmanager
    async def limit(self) -> AsyncIterator[None]:
        """Of one request; it ends with a TimeoutError."""
        async with asyncio.timeout(self._setting.request_seconds) as limit:
            self._running.add(limit)
            try:
                yield
            finally:
                self._running.remove(limit)

    def answered(self) -> None:
        """One side has answered: how long the other one still gets."""
        took = time.monotonic() - self._began
        allowed = max(self._setting.patience_seconds, PATIENCE_FACTOR * took)
        if allowed < self._setting.request_seconds:
            self.failure = "no end long after the other side's"
            for limit in [one for one in self._running if not one.expired()]:
                limit.reschedule(asyncio.get_running_loop().time() + allowed - took)


def _without_times(reply: Reply) -> Reply:
    return replace(reply, ttft_ms=None, total_ms=None, itl_ms=None)
