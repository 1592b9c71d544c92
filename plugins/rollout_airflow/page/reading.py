"""From the cluster to the records of the models, in bounded time; nothing here raises because a cluster is away."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from llm_rollout import record
from llm_rollout.errors import Permanent, Transient
from llm_rollout.ports import Ports
from llm_rollout.spec import RolloutSpec
from llm_rollout.spec_problems import masked
from rollout_airflow import connection
from rollout_airflow.page.views import ModelView, model, unread

PATIENCE_SECONDS = 8.0
"""A person waits no longer for a page; an API server that is there answers in milliseconds."""
READERS = 8
"""Threads in all: one given up keeps its place until its request ends, so a dead cluster gathers no more of them."""

_LOG = logging.getLogger(__name__)
_UNREAD = "its record was not read"
_REMEDY = (
    "check that the API server which the connection names is up, that Airflow's API server reaches it, and that the "
    "connection's credentials are valid"
)

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Reading:
    """What was read. ``problem`` names what keeps the cluster from being read, "" when nothing does."""

    models: tuple[ModelView, ...]
    problem: str = ""


class Unreachable(Exception):  # noqa: N818 - named after what it says, as errors.Transient is
    """The cluster cannot be read as a whole; the text is for the reader of the page."""


class Reader:
    """Reads records in threads of its own."""

    def __init__(self) -> None:
        """Ask nothing yet."""
        self._threads = ThreadPoolExecutor(READERS, thread_name_prefix="rollouts-page")

    async def read(self, models: Sequence[RolloutSpec]) -> Reading:
        """The models as their records show them now."""
        if not models:
            return Reading(())
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                ports = await self._in_thread(connection.ports)
                views = await asyncio.gather(*(self._view(spec, ports) for spec in models))
        except TimeoutError:
            return _nothing(models, f"it did not answer within {PATIENCE_SECONDS:.0f} s. Remedy: {_REMEDY}")
        except (Unreachable, Transient) as error:
            return _nothing(models, f"{error}. Remedy: {_REMEDY}")
        except Permanent as error:
            return _nothing(models, str(error))  # It names its own remedy.
        return Reading(tuple(views))

    async def _view(self, spec: RolloutSpec, ports: Ports) -> ModelView:
        try:
            found = await self._in_thread(partial(record.load, ports.cluster, spec.namespace, spec.name))
        except Permanent as error:
            return unread(spec, str(error))
        return model(spec, found, time.time())

    async def _in_thread(self, question: Callable[[], Answer]) -> Answer:
        """Ask where it blocks nobody.

        Raises:
            Permanent: As ``question`` does.
            Transient: As ``question`` does.
            Unreachable: It failed in a way that nobody foresaw, such as a kubeconfig that is no YAML.
        """
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, question)
        except (Permanent, Transient):
            raise
        except Exception as error:  # noqa: BLE001 - the page says what it could not read, whatever the reason
            # The text of an error from a parser of credentials may quote them: it goes nowhere.
            _LOG.warning("the page could not read the cluster: %s", type(error).__name__)
            raise Unreachable(f"reading it failed with {type(error).__name__}") from None


def _nothing(models: Sequence[RolloutSpec], reason: str) -> Reading:
    problem = f"The cluster behind Airflow's connection {connection.CONNECTION_ID} cannot be read: {masked(reason)}"
    return Reading(tuple(unread(spec, _UNREAD) for spec in models), problem)
