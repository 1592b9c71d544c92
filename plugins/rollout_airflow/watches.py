"""What all triggers of a process share: one client, one watch for each kind and namespace, a few threads."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from llm_rollout.ports import Ports
from rollout_airflow import connection

if TYPE_CHECKING:  # A second of imports, which parsing saves.
    from llm_rollout.adapters.watching import Watching

THREADS = 16
"""Most of a look is waiting for logs; more at a time would only queue at the API server."""
LOOK_AT_LEAST_EVERY_SECONDS = 5.0
"""What a pod prints and what a clock says is no change of an object: it is looked for this often."""
MOST_UNASKED_LOOKS_PER_SECOND = 50.0
"""Of all waits together: where they are more than 250, each looks unasked less often than every five seconds."""
_SPREAD = (0.5, 1.0)
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Reach:
    """An API server as the triggers of this process reach it."""

    ports: Ports
    watching: Watching


_reached: dict[str, Reach] = {}
_pool = ThreadPoolExecutor(THREADS, thread_name_prefix="look")
_attending: set[Attendance] = set()


class Attendance:
    """One wait's place among all others."""

    def __init__(self, reach: Reach, namespace: str, topics: Iterable[str]) -> None:
        """Follow ``topics`` of a namespace; see ``attend``."""
        self._loop, self._changed = asyncio.get_running_loop(), asyncio.Event()
        self._reach, self._is_told = reach, False
        self._view = reach.watching.join(namespace, topics, self._wake)
        self._ports = replace(reach.ports, cluster=self._view)

    async def look(self, question: Callable[[Ports], Answer]) -> Answer:
        """The answer from what is kept of the cluster; what changes from now on wakes ``change``."""
        self._changed.clear()
        self._is_told = False
        return await self._loop.run_in_executor(_pool, question, self._ports)

    async def ask(self, question: Callable[[Ports], Answer]) -> Answer:
        """The answer from the API server itself, as writes need it."""
        return await self._loop.run_in_executor(_pool, question, self._reach.ports)

    async def change(self, at_most_seconds: float) -> None:
        """Return when something has changed since the last look, or it is time to look unasked."""
        try:
            # Waits that began together, as after a restart, drift apart.
            unasked_seconds = unasked_after_seconds(len(_attending)) * random.uniform(*_SPREAD)  # noqa: S311
            async with asyncio.timeout(min(at_most_seconds, unasked_seconds)):
                await self._changed.wait()
        except TimeoutError:
            return

    def leave(self) -> None:
        """Follow nothing any more."""
        self._reach.watching.leave(self._view)

    def _wake(self) -> None:
        if self._is_told or self._loop.is_closed():
            return
        self._is_told = True
        self._loop.call_soon_threadsafe(self._changed.set)


@asynccontextmanager
async def attend(namespace: str, topics: Iterable[str]) -> AsyncIterator[Attendance]:
    """Follow what happens to objects of ``topics``, names of a model and of its Service, in a namespace.

    Raises:
        Permanent: There is no connection, or it does not say where the cluster is.
    """
    attendance = Attendance(await reach(), namespace, topics)
    _attending.add(attendance)
    try:
        yield attendance
    finally:
        _attending.discard(attendance)
        attendance.leave()


async def reach() -> Reach:
    """The API server of the connection, the same for all that ask while the connection stays as it is."""
    extras = await connection.trigger_extras()
    key = await asyncio.to_thread(_key, extras)
    if key not in _reached:
        found = await asyncio.to_thread(_reach, extras)
        _reached.setdefault(key, found)
    return _reached[key]


def unasked_after_seconds(waits: int) -> float:
    """How long one of so many waits goes without a look."""
    return max(LOOK_AT_LEAST_EVERY_SECONDS, waits / MOST_UNASKED_LOOKS_PER_SECOND)


def _key(extras: Mapping[str, Any]) -> str:
    """What a client is made of: new credentials in the same file make another client."""
    path = Path(str(extras.get("kube_config_path") or ""))
    written = path.stat().st_mtime_ns if path.is_file() else 0
    return json.dumps([extras, written], sort_keys=True, default=str)


def _reach(extras: Mapping[str, Any]) -> Reach:
    from llm_rollout.adapters.watch_stream import KubeSource  # noqa: PLC0415 - see above
    from llm_rollout.adapters.watching import Watching  # noqa: PLC0415

    client = connection.api_client(extras, connections=2 * THREADS)
    ports = connection.ports_over(client)
    return Reach(ports, Watching(ports.cluster, KubeSource(client)))
