"""Keep the objects of one kind in one namespace as the API server has them, by a list and a watch."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterator

from llm_rollout.adapters.watch_stream import Change, Gone, Source
from llm_rollout.adapters.watched_objects import WatchedObjects
from llm_rollout.errors import Permanent, Transient
from llm_rollout.ports import Kind

FIRST_LIST_SECONDS = 10.0
"""So long the first reader waits for the first list."""
SILENT_SECONDS = 15.0
"""A living watch says something every ten seconds, if only a bookmark: without it the API server is asked instead."""
BROKEN_SECONDS = 2.0
"""Between two watches some milliseconds pass; after this long without one, what is kept is no answer any more."""
POLL_SECONDS = 5.0
"""Between two lists where watching is refused."""
REFUSED_SECONDS = 60.0
"""Between two attempts where listing is refused."""
IDLE_SECONDS = 120.0
"""What nobody has read for so long is no longer watched."""
SHORTEST_WATCH_SECONDS = 1.0
"""A server that ends watches sooner is not asked again at once."""
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.25, 2.0

_log = logging.getLogger(__name__)


class Feed:
    """One kind in one namespace. It starts with its first reader and ends some time after its last."""

    def __init__(self, source: Source, kind: Kind, namespace: str, changed: Callable[[frozenset[str]], None]) -> None:
        """Read nothing yet; ``changed`` is called in the feed's thread with the topics of what has changed."""
        self._source, self._kind, self._namespace, self._changed = source, kind, namespace, changed
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._begin()

    def objects(self) -> WatchedObjects | None:
        """What the API server has, older by milliseconds; None where it has to be asked itself.

        Raises:
            Transient: It cannot be reached right now.
        """
        with self._lock:
            self._read_at = time.monotonic()
            if self._thread is None:
                self._begin()
                self._thread = threading.Thread(target=self._run, name=f"watch-{self._kind.plural}", daemon=True)
                self._thread.start()
            answered, objects = self._answered, self._objects
        if not answered.wait(FIRST_LIST_SECONDS):
            return None
        now = time.monotonic()
        if self._refused or now - self._heard_at > SILENT_SECONDS:
            return self._unless_broken(now, None)
        return self._unless_broken(now, objects)

    def _unless_broken(self, now: float, objects: WatchedObjects | None) -> WatchedObjects | None:
        broken = self._broken
        if broken is not None and (self._heard_at == 0.0 or now - broken[0] > BROKEN_SECONDS):
            raise Transient(broken[1])
        return objects

    def _begin(self) -> None:
        self._objects = WatchedObjects()
        self._answered = threading.Event()
        """Set with the first answer of the API server, and with the first failure to get one."""
        self._version = ""
        """From where to go on; empty where a list is needed."""
        self._heard_at = 0.0
        self._broken: tuple[float, str] | None = None
        self._refused = self._unwatchable = False
        self._failures = 0

    def _run(self) -> None:
        while not self._ended():
            pause_seconds = self._round()
            self._answered.set()
            time.sleep(pause_seconds)

    def _ended(self) -> bool:
        """Whether nobody reads any more; from then on the next reader starts anew."""
        with self._lock:
            if self._is_wanted():
                return False
            self._thread = None
            return True

    def _is_wanted(self) -> bool:
        return time.monotonic() - self._read_at < IDLE_SECONDS

    def _round(self) -> float:
        """List where that is due, watch until that ends, and answer how long to pause."""
        started = time.monotonic()
        try:
            if not self._version and not self._list():
                return REFUSED_SECONDS
            if not self._watch():
                return POLL_SECONDS
        except Transient as error:
            return self._failed(error)
        except Exception as error:  # noqa: BLE001 - a thread that ends unseen would leave its readers with the past
            _log.exception("watching %s in %s", self._kind.plural, self._namespace)
            return self._failed(Transient(f"watching {self._kind.plural} failed: {type(error).__name__}"))
        self._failures = 0
        lasted = time.monotonic() - started
        return 0.0 if lasted >= SHORTEST_WATCH_SECONDS else SHORTEST_WATCH_SECONDS

    def _list(self) -> bool:
        """Whether listing is allowed."""
        try:
            found = self._source.snapshot(self._kind, self._namespace)
        except Permanent as error:
            self._say_once(self._refused, f"listing is refused, each object is asked for: {error}")
            self._refused, self._broken = True, None
            return False
        topics = self._objects.replace(found.objects)
        self._version, self._refused = found.version, False
        self._heard()
        self._answered.set()
        self._tell(topics)
        return True

    def _watch(self) -> bool:
        """Whether watching is allowed; where it is not, the list is due again."""
        try:
            with self._source.changes(self._kind, self._namespace, self._version) as changes:
                self._unwatchable = False
                self._heard()
                self._follow(changes)
        except Permanent as error:
            self._say_once(self._unwatchable, f"watching is refused, listing every {POLL_SECONDS:.0f} s: {error}")
            self._unwatchable, self._version = True, ""
            return False
        return True

    def _follow(self, changes: Iterator[Change]) -> None:
        for change in changes:
            if change.manifest is None:
                topics: frozenset[str] = frozenset()
            elif change.is_gone:
                topics = self._objects.remove(change.manifest)
            else:
                topics = self._objects.put(change.manifest)
            self._version = change.version
            self._heard()
            self._tell(topics)
            if not self._is_wanted():
                return

    def _heard(self) -> None:
        self._heard_at, self._broken = time.monotonic(), None

    def _tell(self, topics: frozenset[str]) -> None:
        if topics:
            self._changed(topics)

    def _failed(self, error: Transient) -> float:
        """Note a failure; the second in a row lists anew, in case the version is what the API server refuses."""
        self._failures += 1
        if isinstance(error, Gone) or self._failures > 1:
            self._version = ""
        if isinstance(error, Gone) and self._failures == 1:
            return 0.0
        self._broken = self._broken or (time.monotonic(), str(error))
        pause: float = min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2.0 ** min(self._failures, 8))
        return pause * random.uniform(0.5, 1.0)  # noqa: S311 - so that not all feeds come back at once

    def _say_once(self, said: bool, text: str) -> None:  # noqa: FBT001 - a state, not a switch
        if not said:
            _log.warning("%s in %s: %s", self._kind.plural, self._namespace or "all namespaces", text)
