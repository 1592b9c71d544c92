"""All objects of one kind in one namespace, kept in memory and found by name, label and topic.

A topic is what a reader follows: the name of a model or of its Service. An object belongs to the model of its label,
and to every beginning of its name that ends before a dash, so a pod ``chat-abcdefgh-0-1`` belongs to ``chat``. An
event belongs to the object that it is about.
"""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from llm_rollout import kinds, names
from llm_rollout.ports import Kind, Manifest

EVERYONE = ""
"""The topic of events about what belongs to no model by its name: nodes, claims, quotas."""
_NAMED_AFTER_MODELS = ("Pod", "LeaderWorkerSet", "StatefulSet", "Job", "Service", "EndpointSlice")
Mark = tuple[str, str]
_TOPIC = "topic"
"""The first part of a topic's mark; a label's begins with ``label:``."""


@dataclass(frozen=True)
class Stored:
    """An object as text, so that every reader gets a copy of its own, with the marks by which it is found."""

    text: str
    identity: tuple[str, str]
    """UID and version: one that was deleted and made again is another."""
    topics: frozenset[str]
    marks: frozenset[Mark]


class WatchedObjects:
    """The objects; any number of threads may read and one write. Writing answers with the topics that changed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stored: dict[str, Stored] = {}
        self._marked: defaultdict[Mark, set[str]] = defaultdict(set)

    def get(self, name: str) -> Manifest | None:
        """A copy of the object of that name."""
        with self._lock:
            found = self._stored.get(name)
        return json.loads(found.text) if found else None

    def carrying(self, labels: Mapping[str, str]) -> list[Manifest]:
        """Copies of all that carry all of ``labels``, by name."""
        wanted = {_label_mark(key, value) for key, value in labels.items()}
        with self._lock:
            fewest = min((self._marked.get(mark, set()) for mark in wanted), key=len, default=self._stored.keys())
            chosen = [self._stored[name] for name in sorted(fewest) if wanted <= self._stored[name].marks]
        return _read(chosen)

    def about(self, topics: Iterable[str]) -> list[Manifest]:
        """Copies of all that belong to any of ``topics``, by name."""
        with self._lock:
            found = {name for topic in topics for name in self._marked.get((_TOPIC, topic), ())}
            chosen = [self._stored[name] for name in sorted(found)]
        return _read(chosen)

    def replace(self, manifests: Iterable[Manifest]) -> frozenset[str]:
        """Have exactly these from now on."""
        fresh = {manifest["metadata"]["name"]: stored(manifest) for manifest in manifests}
        with self._lock:
            before = self._stored
            changed = [
                one.topics
                for name in before.keys() | fresh.keys()
                if _identity(before.get(name)) != _identity(fresh.get(name))
                for one in (before.get(name), fresh.get(name))
                if one
            ]
            self._stored, self._marked = {}, defaultdict(set)
            for name, one in fresh.items():
                self._put(name, one)
        return frozenset().union(*changed)

    def put(self, manifest: Manifest) -> frozenset[str]:
        """Have this in place of what had its name."""
        name, fresh = manifest["metadata"]["name"], stored(manifest)
        with self._lock:
            before = self._take(name)
            self._put(name, fresh)
        return fresh.topics | (before.topics if before else frozenset())

    def remove(self, manifest: Manifest) -> frozenset[str]:
        """Have this no more; one of its name with another UID is somebody's newer one and stays."""
        metadata = manifest["metadata"]
        with self._lock:
            there = self._stored.get(metadata["name"])
            if there is None or there.identity[0] != metadata["uid"]:
                return frozenset()
            self._take(metadata["name"])
        return there.topics

    def _put(self, name: str, one: Stored) -> None:
        self._stored[name] = one
        for mark in one.marks:
            self._marked[mark].add(name)

    def _take(self, name: str) -> Stored | None:
        one = self._stored.pop(name, None)
        for mark in one.marks if one else ():
            self._marked[mark].discard(name)
            if not self._marked[mark]:
                del self._marked[mark]
        return one


def stored(manifest: Manifest) -> Stored:
    """What is kept of an object: all but who owns its fields, which is a third of it and nobody's business here."""
    metadata = {key: value for key, value in manifest["metadata"].items() if key != "managedFields"}
    topics = topics_of(manifest)
    labels = {_label_mark(key, value) for key, value in (metadata.get("labels") or {}).items()}
    return Stored(
        json.dumps({**manifest, "metadata": metadata}, separators=(",", ":")),
        (metadata["uid"], metadata["resourceVersion"]),
        topics,
        frozenset(labels | {(_TOPIC, topic) for topic in topics}),
    )


def topics_of(manifest: Manifest) -> frozenset[str]:
    """Who may want to know of an object."""
    if manifest["kind"] == kinds.EVENT.kind:
        about = manifest.get("involvedObject", {})
        named = about.get("kind") in _NAMED_AFTER_MODELS
        return frozenset(_beginnings(about.get("name", ""))) if named else frozenset({EVERYONE})
    model = (manifest["metadata"].get("labels") or {}).get(names.MODEL_LABEL)
    return frozenset(_beginnings(manifest["metadata"]["name"])) | ({model} if model else set())


def is_listed_by_topic(kind: Kind) -> bool:
    """Events carry no labels: a reader gets those of its topics instead of everybody's."""
    return kind == kinds.EVENT


def _beginnings(name: str) -> list[str]:
    parts = name.split("-")
    return ["-".join(parts[:count]) for count in range(1, len(parts) + 1)]


def _identity(one: Stored | None) -> tuple[str, str] | None:
    return one.identity if one else None


def _label_mark(key: str, value: str) -> Mark:
    return f"label:{key}", value


def _read(chosen: Iterable[Stored]) -> list[Manifest]:
    found: list[Any] = [json.loads(one.text) for one in chosen]
    return found
