"""Users of a model: they stream completions through its Service at a steady rate, however long answers take.

``python -m benchmarks.evaluations.users URL MODEL RATE`` prints a JSON line for each request that has ended.
"""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx

from devcluster.demo.expectations import PROMPTS
from llm_rollout.adapters import completions
from llm_rollout.adapters.event_loop import LoopLag
from llm_rollout.canary.task_set import Task

TOKENS = 8
_MOST_AT_ONCE = 256


@dataclass(frozen=True)
class Request:
    """One request of a user."""

    at: float
    """When it was sent, in seconds since the epoch."""
    ttft_ms: float | None
    failure: str
    late: bool
    """The users' own process was too busy to measure it."""


class Users:
    """A process of users, apart from whatever else is measured."""

    def __init__(self, output: Path) -> None:
        self._output = output

    def seen(self, began: float, ended: float) -> list[Request]:
        """The requests that were sent between two moments, in seconds since the epoch, and have ended."""
        whole = [line for line in self._output.read_text().splitlines(keepends=True) if line.endswith("\n")]
        found = [Request(**json.loads(line)) for line in whole]
        return [one for one in found if began <= one.at < ended]


@contextmanager
def users(url: str, model: str, rate: float) -> Iterator[Users]:
    """Users for the length of the block, ``rate`` requests a second."""
    command = [sys.executable, "-m", "benchmarks.evaluations.users", url, model, str(rate)]
    with tempfile.NamedTemporaryFile() as output:
        process = subprocess.Popen(command, stdout=output)
        try:
            yield Users(Path(output.name))
        finally:
            process.terminate()
            process.wait()


async def _ask(url: str, model: str, rate: float) -> None:
    server = completions.client(url, _MOST_AT_ONCE)
    chance, due = random.Random(1), time.monotonic()
    async with LoopLag() as lag, asyncio.TaskGroup() as group:
        while True:
            group.create_task(_one(server, model, chance.choice(PROMPTS), lag))
            due += chance.expovariate(rate)
            await asyncio.sleep(max(0.0, due - time.monotonic()))


async def _one(server: httpx.AsyncClient, model: str, prompt: str, lag: LoopLag) -> None:
    at, began = time.time(), time.perf_counter()
    path, body = completions.request(Task("", None, prompt, stop=()), model, TOKENS)
    try:
        reply = await completions.streamed(server, path, body, began)
        ttft_ms, failure = reply.ttft_ms, reply.failure
    except httpx.RequestError as error:
        ttft_ms, failure = None, type(error).__name__
    seen = Request(at, ttft_ms, failure, lag.was_late(began, time.perf_counter()))
    print(json.dumps(asdict(seen)), flush=True)


if __name__ == "__main__":
    asyncio.run(_ask(sys.argv[1], sys.argv[2], float(sys.argv[3])))
