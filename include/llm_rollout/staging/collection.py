"""Make room on a store: remove commits that nobody needs, then content that no remaining commit names.

It works beside stagings, which either wait for the lock or, where the commit is published already, take none and only
touch its manifest before they look. So a commit is renamed away as a whole before its manifest's time is read for the
last time: a staging that touched it earlier is seen here and gets it back, one that comes later finds it gone.
"""

from __future__ import annotations

import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from llm_rollout.errors import Permanent
from llm_rollout.staging import contents, lock
from llm_rollout.staging.contents import Commit, Contents, Kept
from llm_rollout.staging.listing import MANIFEST, Digest
from llm_rollout.staging.store import Store, explained, flush

REPORT_EVERY_SECONDS = 5.0
TIME_STAMP_SECONDS = 2.0
"""The coarsest time stamps of file systems in use: by so much a time may lie before the touch that gave it."""

Emit = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True)
class Root:
    """A commit that stays, whatever its age."""

    repo: str
    commit: str

    def __str__(self) -> str:
        """As ``--root`` takes it."""
        return f"{self.repo}@{self.commit}"


@dataclass(frozen=True)
class Request:
    """What may go: all but ``roots``, the ``keep`` newest commits of each repository, and what is in its grace."""

    store: Path
    roots: tuple[Root, ...]
    keep: int
    grace_seconds: float
    began: float
    """Seconds since the epoch, before the lock is waited for: what is touched later is young, however long that takes.
    Roots that were read earlier must not be older than the grace."""
    dry_run: bool


@dataclass(frozen=True)
class Collection:
    """What goes. ``blobs`` are named by no commit that remains."""

    commits: tuple[Commit, ...]
    blobs: frozenset[Digest]
    partials: frozenset[Digest]


@dataclass
class Removed:
    """What is gone so far."""

    commits: list[Commit] = field(default_factory=list)
    blobs: int = 0
    partials: int = 0
    freed_bytes: int = 0


@dataclass(frozen=True)
class Report:
    """How it ended. Content that a remaining commit names too is not freed; what engines hold open is, once closed."""

    dry_run: bool
    commits_removed: tuple[str, ...]
    commits_kept: int
    roots_absent: tuple[str, ...]
    blobs_removed: int
    partials_removed: int
    bytes_freed: int
    bytes_kept: int
    seconds: float


def decide(found: Contents, roots: Iterable[Root], keep: int, grace_seconds: float, now: float) -> Collection:
    """What may go of ``found``; pure.

    Args:
        found: What the store holds.
        roots: Commits that stay; one that is not on the store changes nothing.
        keep: How many of the newest commits of each repository stay.
        grace_seconds: What was published, confirmed or written later than this before ``now`` stays.
        now: Seconds since the epoch.
    """
    named = {_place(root.repo, root.commit) for root in roots}
    newest = _newest(found.commits, keep)
    oldest_ns = (now - grace_seconds) * 1e9
    gone = tuple(
        one
        for one in found.commits
        if _place(one.repo, one.commit) not in named and one not in newest and one.confirmed_ns < oldest_ns
    )
    needed = frozenset[Digest]().union(*(one.digests for one in found.commits if one not in gone))
    blobs = {digest for digest, kept in found.blobs.items() if kept.changed <= now - grace_seconds}
    partials = {digest for digest, kept in found.partials.items() if kept.changed <= now - grace_seconds}
    return Collection(
        gone, frozenset(blobs - needed), frozenset(partials | (found.partials.keys() & found.blobs.keys()))
    )


def collect(request: Request, emit: Emit) -> Report:
    """Remove what may go, or only say what would.

    Args:
        request: The store, and what stays.
        emit: Takes one progress line at a time.

    Raises:
        Permanent: There is no store, it cannot be written, or what it holds is not understood; then nothing is removed.
        LockLost: Another process took the store over; what has been removed so far needed nobody's consent.
    """
    started, store = time.monotonic(), Store(request.store)
    if not store.root.is_dir():
        raise Permanent(f"there is no store at {store.root}: check --store and the mount")
    try:
        if request.dry_run:
            found = contents.read(store)
            removed = _foreseen(found, _decided(found, request))
        else:
            found, removed = _locked(store, request, emit)
    except OSError as error:
        raise explained(error, request.store) from None
    return _report(request, found, removed, time.monotonic() - started)


def as_line(report: Report) -> dict[str, Any]:
    """The last line of the command's output."""
    return {"event": "report", **asdict(report)}


def _locked(store: Store, request: Request, emit: Emit) -> tuple[Contents, Removed]:
    progress = _Progress(emit)
    store.prepare()
    # Whoever confirms a commit from now on gives it a time that is younger than what may go.
    time.sleep(max(0.0, request.began - request.grace_seconds + TIME_STAMP_SECONDS - time.time()))
    with lock.held(store.lock, progress.waiting) as holding:
        store.clear_staging()
        found = contents.read(store)
        removal = _Removal(store, found, holding, progress)
        removal.run(_decided(found, request))
    return found, removal.removed


@dataclass
class _Removal:
    """The act. Every deletion asks first whether the store is still ours."""

    store: Store
    found: Contents
    holding: lock.Holding
    progress: _Progress
    removed: Removed = field(default_factory=Removed)

    def run(self, collection: Collection) -> None:
        """Commits first, all of them: content may go only when none of what is published names it."""
        taken = [one for one in collection.commits if self._take_out(one)]
        self._make_lasting(taken)
        for one in taken:
            self._delete_commit(one)
        self.store.clear_staging()
        back = frozenset[Digest]().union(*(one.digests for one in collection.commits if one not in taken))
        for digest in sorted(collection.blobs - back, key=str):
            self._allowed()
            self.store.blob(digest).unlink(missing_ok=True)
            self.removed.blobs += 1
            self.removed.freed_bytes += self.found.blobs[digest].size_bytes
        for digest in sorted(collection.partials, key=str):
            self._allowed()
            shutil.rmtree(self.store.partial(digest), ignore_errors=True)
            self.removed.partials += 1
            self.removed.freed_bytes += self.found.partials[digest].size_bytes

    def _take_out(self, one: Commit) -> bool:
        """Rename a commit away; whether nobody had confirmed it until then. Else it is in its place again."""
        place, aside = (
            self.store.model(one.repo, one.commit),
            self.store.taken_out(self.holding.number, one.repo, one.commit),
        )
        if contents.confirmed_ns(place) != one.confirmed_ns:
            return False
        aside.parent.mkdir(parents=True, exist_ok=True)
        self._allowed()
        place.rename(aside)
        if contents.confirmed_ns(aside) == one.confirmed_ns:
            return True
        aside.rename(place)
        return False

    def _make_lasting(self, taken: Sequence[Commit]) -> None:
        """A node that fails now must not come back with a commit whose content is gone."""
        for folder in {self.store.model(one.repo, one.commit).parent for one in taken}:
            flush(folder)

    def _delete_commit(self, one: Commit) -> None:
        """The manifest first: what has one is whole, and goes back where this process dies."""
        aside = self.store.taken_out(self.holding.number, one.repo, one.commit)
        self._allowed()
        (aside / MANIFEST).unlink()
        # On NFS, directories with files that are open here stay until these are closed; the next sweep takes them.
        shutil.rmtree(aside, ignore_errors=True)
        self.removed.commits.append(one)

    def _allowed(self) -> None:
        self.holding.refuse_if_lost()
        self.progress.now_and_then(self.removed)


class _Progress:
    """Lines while it waits and works, one every few seconds."""

    def __init__(self, emit: Emit) -> None:
        self._emit, self._next = emit, 0.0

    def waiting(self, holder: str) -> None:
        self._say({"waiting_for": f"{holder}, which writes to this store"})

    def now_and_then(self, removed: Removed) -> None:
        counts = {"blobs_removed": removed.blobs, "partials_removed": removed.partials}
        self._say({"commits_removed": len(removed.commits), **counts, "bytes_freed": removed.freed_bytes})

    def _say(self, line: Mapping[str, Any]) -> None:
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + REPORT_EVERY_SECONDS
            self._emit({"event": "progress", **line})


def _decided(found: Contents, request: Request) -> Collection:
    return decide(found, request.roots, request.keep, request.grace_seconds, request.began)


def _foreseen(found: Contents, collection: Collection) -> Removed:
    gone: list[Kept] = [found.blobs[digest] for digest in collection.blobs]
    gone += [found.partials[digest] for digest in collection.partials]
    freed = sum(kept.size_bytes for kept in gone)
    return Removed([*collection.commits], len(collection.blobs), len(collection.partials), freed)


def _report(request: Request, found: Contents, removed: Removed, seconds: float) -> Report:
    total = sum(kept.size_bytes for kept in (*found.blobs.values(), *found.partials.values()))
    there = {_place(one.repo, one.commit) for one in found.commits}
    return Report(
        dry_run=request.dry_run,
        commits_removed=tuple(map(str, removed.commits)),
        commits_kept=len(found.commits) - len(removed.commits),
        roots_absent=tuple(str(root) for root in request.roots if _place(root.repo, root.commit) not in there),
        blobs_removed=removed.blobs,
        partials_removed=removed.partials,
        bytes_freed=removed.freed_bytes,
        bytes_kept=total - removed.freed_bytes,
        seconds=round(seconds, 3),
    )


def _newest(commits: Iterable[Commit], keep: int) -> frozenset[Commit]:
    by_repo: dict[str, list[Commit]] = defaultdict(list)
    for one in sorted(commits, key=lambda one: (one.confirmed_ns, one.commit), reverse=True):
        by_repo[one.repo].append(one)
    return frozenset(one for group in by_repo.values() for one in group[:keep])


def _place(repo: str, commit: str) -> tuple[str, str]:
    """Where it is published: that is all that a path in a pod tells."""
    return repo.replace("/", "--"), commit
