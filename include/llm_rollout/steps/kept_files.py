"""Evidence that is written while a step goes on: again only when it says something new, however often one looks."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from weakref import WeakKeyDictionary

from llm_rollout import names
from llm_rollout.errors import Permanent, Transient
from llm_rollout.ports import PodLogs, Ports

_MOST_PATHS = 1024
_written: WeakKeyDictionary[PodLogs, OrderedDict[str, tuple[str, str]]] = WeakKeyDictionary()
"""Digest and address of what was written last under each path, for each connection of this process; after a restart
all is written once more."""


def put(ports: Ports, path: str, stage: object, text: Callable[[], str]) -> str:
    """Write unless it was written at the same ``stage``: small changes are not worth a write. The address of it.

    Raises:
        Transient: The store did not answer.
        Permanent: The store refused.
    """
    digest, memory = names.digest(stage), _written.setdefault(ports.logs, OrderedDict())
    if path not in memory or memory[path][0] != digest:
        memory[path] = (digest, ports.evidence.put(path, text()))
    memory.move_to_end(path)
    while len(memory) > _MOST_PATHS:
        memory.popitem(last=False)
    return memory[path][1]


def try_put(ports: Ports, path: str, picture: str) -> None:
    """Write a picture, or not: that it cannot be kept must not stand in the way of a roll back."""
    with suppress(Transient, Permanent):
        ports.evidence.put(path, picture)
