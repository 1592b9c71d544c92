"""Keeps the comparison from taking what stable's users need: it is asked before every request how many may be out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress

from llm_rollout.canary.back_pressure import Limits, Load, Pace, Seats, queues, room

_EVERY_SECONDS = 0.5
"""How old stable's gauges may be: vLLM brings them up to date about as often."""


class StableRoom:
    """Lets so many requests out at a time as stable has room for."""

    def __init__(self, limits: Limits, read: Callable[[], Awaitable[Load | None]]) -> None:
        """Take the limits and what reads stable's gauges."""
        self._limits = limits
        self._read = read
        self._read_from = 0.0
        self._reading = asyncio.Lock()
        self._freed = asyncio.Event()
        self._room = 0
        self._out = 0
        self._most_out = 0
        self._seats = Seats()
        self._queued = self._gave_way = False
        self.pace = Pace()
        self.waited_seconds = 0.0
        """What was waited because requests queued on stable."""
        self.known = True
        """Whether stable has gauges."""

    @asynccontextmanager
    async def request(self) -> AsyncIterator[None]:
        """Wait for room, and hold it until the request has ended."""
        while not await self._may_ask():
            self._freed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(_EVERY_SECONDS):
                    await self._freed.wait()
        self._out += 1
        self._most_out = max(self._out, self._most_out)
        try:
            yield
        finally:
            self._out -= 1
            self._freed.set()

    def learn(self, times_ms: Sequence[float]) -> None:
        """Take in stable's times to the first token of a round, where it was played with all that the pace allows."""
        if self._most_out >= self.pace.slots and not self._gave_way:
            self.pace = self.pace.after(times_ms, self._limits.most)
        self._most_out, self._gave_way = self._out, False

    async def _may_ask(self) -> bool:
        async with self._reading:
            now = time.monotonic()
            if now >= self._read_from:
                seen = await self._read()
                self.known = seen is not None
                self._seats = self._seats.after(seen, self._limits)
                self._room = room(seen, self._out, self._limits, self._seats)
                self._give_way(seen)
                if not self._room and self._read_from:
                    self.waited_seconds += _EVERY_SECONDS
                self._read_from = time.monotonic() + _EVERY_SECONDS
            return self._out < min(self._room, self.pace.slots)

    def _give_way(self, seen: Load | None) -> None:
        """Ask less from now on where requests queue beside ours: once for each time that a queue comes up."""
        queued = seen is not None and queues(seen, self._limits) and self._out > 0
        if queued and not self._queued:
            self.pace, self._gave_way = self.pace.back(), True
        self._queued = queued
