"""Tells when this process itself was too slow to measure others: a busy machine reads every answer late."""

from __future__ import annotations

import asyncio
import time
from types import TracebackType
from typing import Self

LATE_SECONDS = 0.1
"""A reader that is late by a third of a usual TTFT of 300 ms says nothing about a candidate that is a tenth slower."""
_EVERY_SECONDS = 0.01


class LoopLag:
    """Sleeps over and over while it is entered and notes when it was woken too late."""

    def __init__(self, late_seconds: float = LATE_SECONDS) -> None:
        """Count as late what exceeds ``late_seconds``."""
        self._late_seconds = late_seconds
        self._late: list[tuple[float, float]] = []
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Begin to watch."""
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End."""
        assert self._task  # noqa: S101 - it was entered
        self._task.cancel()

    def was_late(self, began: float, ended: float) -> bool:
        """Whether the loop stood still at any moment of this time, in seconds of ``time.perf_counter``."""
        return any(start < ended and end > began for start, end in self._late)

    async def _watch(self) -> None:
        while True:
            slept_from = time.perf_counter()
            await asyncio.sleep(_EVERY_SECONDS)
            woken = time.perf_counter()
            if woken - slept_from - _EVERY_SECONDS > self._late_seconds:
                self._late.append((slept_from, woken))
