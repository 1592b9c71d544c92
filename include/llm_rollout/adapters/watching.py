"""One watch for each kind and namespace, shared by all who wait in this process.

Waiting steps read through a ``View``, which answers from what the watches keep and wakes its reader when something of
its own has changed. What a view answers may lag by milliseconds, never by more than a silent watch is trusted
(``feed.SILENT_SECONDS``); verdicts that count are taken again without it.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

from llm_rollout import kinds
from llm_rollout.adapters import watch_stream, watched_objects
from llm_rollout.adapters.feed import Feed
from llm_rollout.adapters.watch_stream import Source
from llm_rollout.adapters.watched_objects import EVERYONE, WatchedObjects
from llm_rollout.ports import Cluster, Kind, Manifest

WATCHED = (
    kinds.LEADER_WORKER_SET, kinds.POD, kinds.EVENT, kinds.JOB, kinds.SERVICE, kinds.ENDPOINT_SLICE, kinds.CONFIG_MAP,
    kinds.NODE,
)  # fmt: skip
"""What waiting steps read again and again; anything else is asked of the API server each time."""
WRITTEN_SECONDS = 2.0
"""So long after a write its kind is read from the API server, for the watch may not have brought it yet."""
Wake = Callable[[], None]


class Watching:
    """The watches of one API server."""

    def __init__(self, cluster: Cluster, source: Source) -> None:
        """Watch nothing yet; what is not watched is asked of ``cluster``."""
        self.cluster = cluster
        self._source = source
        self._lock = threading.Lock()
        self._feeds: dict[tuple[Kind, str], Feed] = {}
        self._readers: defaultdict[tuple[str, str], set[View]] = defaultdict(set)

    def join(self, namespace: str, topics: Iterable[str], wake: Wake) -> View:
        """A view for one reader; ``wake`` is called, in any thread, when something of its topics has changed."""
        view = View(self, namespace, frozenset(topics), wake)
        with self._lock:
            for topic in view.topics:
                self._readers[namespace, topic].add(view)
        return view

    def leave(self, view: View) -> None:
        """Wake this reader no more."""
        with self._lock:
            for topic in view.topics:
                readers = self._readers[view.namespace, topic]
                readers.discard(view)
                if not readers:
                    del self._readers[view.namespace, topic]

    def objects(self, kind: Kind, namespace: str) -> WatchedObjects | None:
        """What is kept of a kind; None where the API server has to be asked. Raises Transient, see ``Feed``."""
        if kind not in WATCHED or bool(namespace) != kind.namespaced:
            return None
        with self._lock:
            feed = self._feeds.get((kind, namespace))
            if feed is None:
                feed = Feed(self._source, kind, namespace, lambda topics: self._wake(namespace, topics))
                self._feeds[kind, namespace] = feed
        return feed.objects()

    def _wake(self, namespace: str, topics: frozenset[str]) -> None:
        with self._lock:
            readers = {view for topic in topics for view in self._readers.get((namespace, topic), ())}
        for view in readers:
            view.wake()


class View:
    """``ports.Cluster`` as one reader sees it: reads of what is watched cost no request.

    Events are those about objects of the reader's topics, and about what belongs to no model. Writes go to the API
    server as they are.
    """

    def __init__(self, watching: Watching, namespace: str, topics: frozenset[str], wake: Wake) -> None:
        """See ``Watching.join``."""
        self.namespace, self.topics, self.wake = namespace, topics, wake
        self._watching = watching
        self._cluster = watching.cluster
        self._written: dict[str, float] = {}

    def get(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        """See ``ports.Cluster``."""
        objects = self._objects(kind, namespace if kind.namespaced else "")
        found = objects.get(name) if objects else None
        if found is None and (objects is None or not watch_stream.is_whole(kind)):
            return self._cluster.get(kind, namespace, name)
        return found

    def list(self, kind: Kind, namespace: str, labels: Mapping[str, str] | None = None) -> Sequence[Manifest]:
        """See ``ports.Cluster``."""
        objects = self._objects(kind, namespace) if watch_stream.is_whole(kind) else None
        if objects is None:
            return self._cluster.list(kind, namespace, labels)
        if watched_objects.is_listed_by_topic(kind) and not labels:
            return objects.about({*self.topics, EVERYONE})
        return objects.carrying(labels or {})

    def apply(self, manifest: Manifest) -> Manifest:
        """See ``ports.Cluster``."""
        return self._writing(manifest["kind"], lambda: self._cluster.apply(manifest))

    def create(self, manifest: Manifest) -> Manifest:
        """See ``ports.Cluster``."""
        return self._writing(manifest["kind"], lambda: self._cluster.create(manifest))

    def replace(self, manifest: Manifest) -> Manifest:
        """See ``ports.Cluster``."""
        return self._writing(manifest["kind"], lambda: self._cluster.replace(manifest))

    def delete(self, kind: Kind, namespace: str, name: str, uid: str) -> None:
        """See ``ports.Cluster``."""
        self._written[kind.kind] = time.monotonic()
        self._cluster.delete(kind, namespace, name, uid)

    def _objects(self, kind: Kind, namespace: str) -> WatchedObjects | None:
        if time.monotonic() - self._written.get(kind.kind, -WRITTEN_SECONDS) < WRITTEN_SECONDS:
            return None
        return self._watching.objects(kind, namespace)

    def _writing(self, kind: str, write: Callable[[], Manifest]) -> Manifest:
        """A write that met somebody else's has shown that what is kept is out of date, too."""
        try:
            return write()
        finally:
            self._written[kind] = time.monotonic()
