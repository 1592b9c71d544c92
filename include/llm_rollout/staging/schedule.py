"""Who fetches what next: many files at first, then many parts of the few that are left."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from llm_rollout.staging.listing import File
from llm_rollout.staging.partial import Interval, Partial

SEGMENT_BYTES = 64 * 1024 * 1024
"""One request while every connection has a file of its own: a round trip costs little."""
SHARED_SEGMENT_BYTES = 16 * 1024 * 1024
"""One request where connections share files: the digest, which goes in order, does not fall behind."""


@dataclass(eq=False)
class Fetch:
    """One file's way onto the store."""

    partial: Partial
    missing: list[Interval]
    """Not arrived and given to no worker."""
    workers: int = 0
    whole: bool = False
    """The server knows no ranges: one request for everything."""
    mismatches: int = 0
    """Times that all had arrived and the digest was another."""
    failures: int = 0
    """Failed requests since the last byte that was new."""
    cause: str = ""
    not_before: float = 0.0
    done: bool = False

    @property
    def file(self) -> File:
        """What is fetched."""
        return self.partial.file


@dataclass(frozen=True)
class Part:
    """What one worker fetches with one request."""

    fetch: Fetch
    start: int
    end: int


class Schedule:
    """The files that are not there yet. Safe to use from many threads."""

    def __init__(self, partials: Sequence[Partial]) -> None:
        """Largest first: what takes longest must not start last."""
        largest_first = sorted(partials, key=lambda partial: -partial.file.size_bytes)
        self.fetches = [Fetch(partial, parts_of(partial)) for partial in largest_first]
        self._changed = threading.Condition()
        self._wanted = self._hired = 0
        self.stopped = False
        """Nothing is given out any more, and what is in flight may end."""

    def want(self, workers: int) -> int:
        """So many workers shall share the work; says how many are to be started. Too many leave after their part."""
        with self._changed:
            starting = max(0, workers - self._hired)
            self._wanted, self._hired = workers, self._hired + starting
            self._changed.notify_all()
            return starting

    def take(self, last: Fetch | None) -> Part | None:
        """The next part, best of the file that the worker has open; waits for one; None when the worker shall leave."""
        with self._changed:
            while True:
                if self._over() or self._hired > self._wanted:
                    self._hired -= 1
                    return None
                now = time.monotonic()
                ready = [fetch for fetch in self.fetches if fetch.missing and fetch.not_before <= now]
                if fetch := _best(ready, last):
                    fetch.workers += 1
                    return Part(fetch, *_cut(fetch, self._segment_bytes()))
                self._changed.wait(_pause(self.fetches, now))

    def give_back(self, part: Part, reached: int, *, cause: str = "", pause_seconds: float = 0.0) -> bool:
        """The worker is done with its part, as far as ``reached``; True when the whole file has arrived."""
        with self._changed:
            fetch = part.fetch
            fetch.workers -= 1
            if reached < part.end:
                fetch.missing = sorted([*fetch.missing, (reached, part.end)])
                fetch.cause = cause
                fetch.not_before = max(fetch.not_before, time.monotonic() + pause_seconds)
                fetch.failures += 1
            self._changed.notify_all()
            return not fetch.missing and not fetch.workers

    def pause(self, seconds: float) -> None:
        """The server asks for no requests for a while: that holds for all files."""
        with self._changed:
            for fetch in self.fetches:
                fetch.not_before = max(fetch.not_before, time.monotonic() + seconds)

    def restart(self, fetch: Fetch) -> None:
        """Fetch the file again."""
        with self._changed:
            fetch.missing = parts_of(fetch.partial)
            self._changed.notify_all()

    def finish(self, fetch: Fetch) -> None:
        """The file is on the store."""
        with self._changed:
            fetch.done = True
            self._changed.notify_all()

    def stop(self) -> None:
        """Give nothing out any more."""
        with self._changed:
            self.stopped = True
            self._changed.notify_all()

    def forgive(self) -> None:
        """Another way is tried now: what failed on the one before says nothing about it, so nobody waits any more."""
        with self._changed:
            for fetch in self.fetches:
                fetch.failures, fetch.not_before = 0, 0.0
            self._changed.notify_all()

    def over_within(self, seconds: float) -> bool:
        """Wait so long at most for the end: everything on the store, or stopped."""
        with self._changed:
            return self._changed.wait_for(self._over, seconds)

    def failing(self) -> list[Fetch]:
        """Files that are not done and whose last request failed."""
        with self._changed:
            return [fetch for fetch in self.fetches if not fetch.done and fetch.failures]

    def _segment_bytes(self) -> int:
        shared = sum(not fetch.done for fetch in self.fetches) < self._wanted
        return min(SEGMENT_BYTES, SHARED_SEGMENT_BYTES) if shared else SEGMENT_BYTES

    def _over(self) -> bool:
        return self.stopped or all(fetch.done for fetch in self.fetches)


def parts_of(partial: Partial) -> list[Interval]:
    """What is missing; of a file that has arrived its empty end, so that some worker completes it."""
    end = partial.file.size_bytes
    return partial.missing() or [(end, end)]


def _best(ready: Sequence[Fetch], last: Fetch | None) -> Fetch | None:
    if last is not None and last in ready and not last.failures and not (last.whole and last.workers):
        return last
    alone = [fetch for fetch in ready if not fetch.workers]
    if alone:
        # A file that has failed less often comes first: where all fail, each is tried again, and staging gives up.
        return min(alone, key=lambda fetch: fetch.failures)
    shared = [fetch for fetch in ready if not fetch.whole]
    return max(shared, key=lambda fetch: sum(end - start for start, end in fetch.missing), default=None)


def _cut(fetch: Fetch, most_bytes: int) -> Interval:
    if fetch.whole:
        fetch.missing = []
        return 0, fetch.file.size_bytes
    start, end = fetch.missing.pop(0)
    if end - start > most_bytes:
        fetch.missing.insert(0, (start + most_bytes, end))
        end = start + most_bytes
    return start, end


def _pause(fetches: Sequence[Fetch], now: float) -> float | None:
    waiting = [fetch.not_before - now for fetch in fetches if fetch.missing and fetch.not_before > now]
    return min(waiting, default=None)
