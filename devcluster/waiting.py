"""Wait for other programs, whose state has no event to wait for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

PAUSE_SECONDS = 0.05


async def until(check: Callable[[], Awaitable[bool]], timeout_seconds: float | None = None) -> None:
    """Return once ``check`` says so. Raises TimeoutError."""
    async with asyncio.timeout(timeout_seconds):
        while not await check():  # noqa: ASYNC110 - see above
            await asyncio.sleep(PAUSE_SECONDS)
