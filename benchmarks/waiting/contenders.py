"""Waits in this process, by one of the ways to wait, and what they cost."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubernetes import client, config

from benchmarks.waiting import models
from llm_rollout import runner
from llm_rollout.adapters import ports_from
from llm_rollout.adapters.evidence import DirectoryEvidence
from llm_rollout.adapters.watch_stream import KubeSource
from llm_rollout.adapters.watching import Watching
from llm_rollout.ports import Ports
from llm_rollout.rollout import Rollout
from llm_rollout.spec import RolloutSpec
from llm_rollout.verdict import Wait

CHANGES = 20
BETWEEN_CHANGES_SECONDS = 0.5
LATEST_SECONDS = 120.0
CONNECTIONS = 40
_HOUR = 3600.0


@dataclass(frozen=True)
class Cost:
    """What so many waits cost per second, and how long after a change each ended."""

    cpu_seconds_per_second: float
    requests_per_second: float
    looks_per_second: float
    median_seconds: float
    worst_seconds: float


@dataclass
class Counts:
    """What has been done so far in this process."""

    requests: int = 0
    looks: int = 0


def measure(contender: str, kubeconfig: str, jobs: list[str], settle_seconds: float, seconds: float) -> Cost:
    """Have all models wait; measure when they have settled, then end some of the Jobs. ``contender`` is of ``WAYS``."""
    return asyncio.run(_measure(contender, kubeconfig, jobs, (settle_seconds, seconds)))


async def _measure(contender: str, kubeconfig: str, jobs: list[str], times: tuple[float, float]) -> Cost:
    api_client = _api_client(kubeconfig)
    counts = _counted(api_client)
    wait = WAYS[contender](api_client)
    ended: dict[int, asyncio.Task[float]] = {
        number: asyncio.ensure_future(_moment(wait(number))) for number in range(len(jobs))
    }
    await asyncio.sleep(times[0])
    before, cpu, started = Counts(counts.requests, counts.looks), time.process_time(), time.monotonic()
    await asyncio.sleep(times[1])
    wall, cpu = time.monotonic() - started, time.process_time() - cpu
    requests, looks = counts.requests - before.requests, counts.looks - before.looks
    delays = await _delays(api_client, jobs, ended)
    for task in ended.values():
        task.cancel()
    await asyncio.gather(*ended.values(), return_exceptions=True)
    return Cost(cpu / wall, requests / wall, looks / wall, statistics.median(delays), max(delays))


async def _moment(wait: Awaitable[object]) -> float:
    await wait
    return time.monotonic()


async def _delays(api_client: Any, jobs: list[str], ended: Mapping[int, asyncio.Task[float]]) -> list[float]:
    """Between the end of a Job and the end of the wait for it."""
    changed: dict[int, float] = {}
    for number in range(0, len(jobs), max(1, len(jobs) // CHANGES)):
        await asyncio.to_thread(models.complete, api_client, jobs[number])
        changed[number] = time.monotonic()
        await asyncio.sleep(BETWEEN_CHANGES_SECONDS)
    await asyncio.wait([ended[number] for number in changed], timeout=LATEST_SECONDS)
    now = time.monotonic()
    return [
        max(0.0, (ended[number].result() if ended[number].done() else now) - moment)
        for number, moment in changed.items()
    ]


def _api_client(kubeconfig: str) -> Any:
    configuration = client.Configuration()
    configuration.connection_pool_maxsize = CONNECTIONS
    config.load_kube_config(kubeconfig, client_configuration=configuration)
    return client.ApiClient(configuration)


def _counted(api_client: Any) -> Counts:
    """Count the requests of this client and the looks of this process."""
    counts, call, look = Counts(), api_client.call_api, runner.look

    def counted_call(*arguments: Any, **named: Any) -> Any:
        counts.requests += 1
        return call(*arguments, **named)

    def counted_look(*arguments: Any) -> Any:
        counts.looks += 1
        return look(*arguments)

    api_client.call_api = counted_call
    setattr(runner, "look", counted_look)  # noqa: B010 - in this process of its own, mypy need not agree
    return counts


def _ports(api_client: Any) -> Ports:
    return ports_from(api_client, DirectoryEvidence(Path()))


def _shared(api_client: Any) -> Callable[[int], Awaitable[object]]:
    """The project's triggers."""
    from rollout_airflow import watches  # noqa: PLC0415 - Airflow makes its folders when it is imported
    from rollout_airflow.triggers import AwaitStep  # noqa: PLC0415

    ports = _ports(api_client)
    found = watches.Reach(ports, Watching(ports.cluster, KubeSource(api_client)))

    async def reach() -> watches.Reach:
        return found

    watches.reach = reach

    def wait(number: int) -> Awaitable[object]:
        now = time.time()
        trigger = AwaitStep(
            step=models.STEP, spec=models.spec(number), run_id=models.RUN, attempt=models.ATTEMPT,
            revision=models.REVISION, dry_run=False, since=now, until=now + _HOUR,
        )  # fmt: skip
        return anext(trigger.run())

    return wait


def _polling(every_seconds: float) -> Callable[[Any], Callable[[int], Awaitable[object]]]:
    """A trigger that looks again and again, as providers' triggers do; all share one client."""

    def over(api_client: Any) -> Callable[[int], Awaitable[object]]:
        ports = _ports(api_client)

        async def wait(number: int) -> None:
            rollout = Rollout(
                RolloutSpec.model_validate(models.spec(number)), models.RUN, models.ATTEMPT, models.REVISION
            )
            await asyncio.sleep(every_seconds * (number % 100) / 100)
            while isinstance(  # noqa: ASYNC110 - polling is what is measured
                await asyncio.to_thread(runner.look, models.STEP, rollout, ports, time.time), Wait
            ):
                await asyncio.sleep(every_seconds)

        return wait

    return over


WAYS: Mapping[str, Callable[[Any], Callable[[int], Awaitable[object]]]] = {
    "one shared watch": _shared,
    "polling every 5 s": _polling(5.0),
    "polling every second": _polling(1.0),
}
