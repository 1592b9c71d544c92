"""Keep a component running: start it, notice its death, start it again."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any

from devcluster.controlplane import Component
from devcluster.waiting import until

FIRST_PAUSE_SECONDS = 0.5
MAX_PAUSE_SECONDS = 10.0
STABLE_SECONDS = 30.0
"""A component that lived this long starts again without the pauses of earlier deaths."""
TAIL_BYTES = 2000


class Keeper:
    """One component and its process. Its output goes to ``<logs>/<name>.log``."""

    def __init__(self, component: Component, logs: Path) -> None:
        self.component = component
        self.restarts = 0
        self.note = ""
        self._log = logs / f"{component.name}.log"
        self._process: asyncio.subprocess.Process | None = None
        self._up = asyncio.Event()

    def describe(self) -> dict[str, Any]:
        """Name, state (``waiting``, ``starting`` or ``up``), restarts and the note on the last death."""
        state = "up" if self._up.is_set() else "starting" if self._process else "waiting"
        return {"name": self.component.name, "state": state, "restarts": self.restarts, "note": self.note}

    async def run(self) -> None:
        """Run it, and again after each death, until cancelled."""
        pause = FIRST_PAUSE_SECONDS
        while True:
            started = time.monotonic()
            code = await self._once()
            lived = time.monotonic() - started
            self.restarts += 1
            pause = FIRST_PAUSE_SECONDS if lived > STABLE_SECONDS else min(pause * 2, MAX_PAUSE_SECONDS)
            self.note = f"ended with {code} after {lived:.1f} s"
            print(f"{self.component.name} {self.note}; starting it again in {pause:.1f} s", flush=True)
            await asyncio.sleep(pause)

    async def up(self, timeout_seconds: float) -> None:
        """Wait until it is up. Raises TimeoutError with the end of its log."""
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._up.wait()
        except TimeoutError:
            tail = self._log.read_bytes()[-TAIL_BYTES:].decode(errors="replace") if self._log.exists() else ""
            text = f"{self.component.name} is not up after {timeout_seconds:.0f} s ({self.note or 'still running'})"
            raise TimeoutError(f"{text}; the end of {self._log}:\n{tail}") from None

    async def end(self, grace_seconds: float) -> None:
        """Ask the process to end and wait for it for a while; call after cancelling ``run``."""
        if self._process is None or self._process.returncode is not None:
            return
        self._process.terminate()
        try:
            async with asyncio.timeout(grace_seconds):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()

    async def _once(self) -> int:
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self.component.argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.component.env},
            )
        watching = asyncio.create_task(self._watch_port())
        try:
            return await self._process.wait()
        finally:
            watching.cancel()
            self._up.clear()

    async def _watch_port(self) -> None:
        await until(lambda: _accepts(self.component.port))
        self._up.set()


async def _accepts(port: tuple[str, int] | None) -> bool:
    if port is None:
        return True
    try:
        _, writer = await asyncio.open_connection(*port)
    except OSError:
        return False
    writer.close()
    return True
