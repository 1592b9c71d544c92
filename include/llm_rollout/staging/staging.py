"""Stage one commit: list, compare with the store, fetch what is missing, check, publish."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from llm_rollout.errors import Permanent, Transient
from llm_rollout.ports import Hub, HubCommit
from llm_rollout.staging import headers, lock, manifest, xet_transport
from llm_rollout.staging.http_transport import HttpTransport, Repository
from llm_rollout.staging.listing import INDEX, Digest, File, choose, named_shards, refuse_absent_shards
from llm_rollout.staging.meter import Meter
from llm_rollout.staging.object_source import is_object_store
from llm_rollout.staging.object_transport import ObjectTransport
from llm_rollout.staging.partial import Partial
from llm_rollout.staging.schedule import Fetch
from llm_rollout.staging.store import Store, explained, read_manifest
from llm_rollout.staging.transfer import Transfer, backoff_seconds
from llm_rollout.staging.transport import Transport

REPORT_EVERY_SECONDS = 5.0
_MOST_NAMED_FILES = 16
"""Files in flight that a progress line names: about as many as there are connections."""

Emit = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True)
class Request:
    """What is to be staged, from where, onto which store."""

    repo: str
    revision: str
    store: Path
    endpoint: str
    token: str | None
    include: tuple[str, ...]
    exclude: tuple[str, ...]
    connections: int
    give_up_after_seconds: float


@dataclass(frozen=True)
class Report:
    """How it ended. ``bytes_total`` counts every file, ``bytes_fetched`` what came over the network."""

    commit: str
    path: str
    files: int
    bytes_total: int
    bytes_fetched: int
    bytes_reused: int
    seconds: float


def stage(request: Request, hub: Hub, emit: Emit, may_end: Callable[[], None] = lambda: None) -> Report:
    """Have the commit published on the store, every byte proven; of a published one only the manifest's time changes.

    Args:
        request: What, from where, to where.
        hub: Answers which commit and which files.
        emit: Takes one progress line at a time.
        may_end: Called several times a second while bytes arrive or the lock is waited for; what it raises ends the
            staging, and what has arrived is kept.

    Raises:
        NoSpace: The store cannot hold it.
        Permanent: It cannot be had, is no model, or its bytes are wrong at their source.
        Transient: The hub, or the store, did not bring anything new for ``give_up_after_seconds``.
    """
    started = time.monotonic()
    commit = _resolved(request, hub)
    files = choose(commit, request.include, request.exclude)
    store = Store(request.store)
    try:
        store.prepare()
        there = store.confirm(request.repo, commit.commit) and store.published(request.repo, commit.commit, files)
        if there and not store.has_remains():
            meter = _all_there(files)
        else:
            with lock.held(store.lock, _Waiting(emit, may_end)) as holding:
                store.confirm(request.repo, commit.commit)
                meter = _Staging(request, commit.commit, store, holding, emit, may_end, hub).run(files)
    except OSError as error:
        raise explained(error, request.store) from None
    return Report(
        commit=commit.commit,
        path=str(store.model(request.repo, commit.commit)),
        files=len(files),
        bytes_total=meter.total_bytes,
        bytes_fetched=meter.fetched_bytes,
        bytes_reused=meter.reused_bytes,
        seconds=round(time.monotonic() - started, 3),
    )


@dataclass(frozen=True)
class _Staging:
    request: Request
    commit: str
    store: Store
    holding: lock.Holding
    emit: Emit
    may_end: Callable[[], None]
    hub: Hub

    def run(self, files: Sequence[File]) -> Meter:
        """Fetch and publish; whoever held the lock before may have done all of it."""
        self.store.sweep()
        if self.store.published(self.request.repo, self.commit, files):
            return _all_there(files)
        total = sum(file.size_bytes for file in files)
        lacking = [file for file in _each_once(files) if not self.store.has_blob(file)]
        partials = [Partial(self.store.partial(file.digest), file, self.holding.number) for file in lacking]
        missing = sum(partial.file.size_bytes - partial.arrived_bytes() for partial in partials)
        meter = Meter(total, total - missing)
        try:
            self.store.refuse_without_space(missing)
            self._fetch_all(files, partials, meter)
        finally:
            for partial in partials:
                partial.close()
        self.holding.refuse_if_lost()
        self.store.publish(self.request.repo, self.commit, self._with_published(files), self.holding.number)
        return meter

    def _fetch_all(self, files: Sequence[File], partials: Sequence[Partial], meter: Meter) -> None:
        """The index first: a shard that is absent shows before the first of the others is fetched."""
        report = _Reporter(self.emit, self.may_end, meter, files)
        first = [partial for partial in partials if partial.file.path == INDEX]
        self._fetch(first, meter, report)
        shards = self._shards(files)
        refuse_absent_shards(files, shards)
        self._fetch([partial for partial in partials if partial not in first], meter, report)
        by_path = {file.path: self.store.blob(file.digest) for file in files}
        headers.check(by_path, shards)
        report.now([])

    def _fetch(self, partials: Sequence[Partial], meter: Meter, report: _Reporter) -> None:
        if not partials:
            return
        patience = self.request.give_up_after_seconds
        transports = self._transports(lambda: transfer.schedule.fetches)
        transfer = Transfer(self.store, partials, transports, self.holding, meter, patience)
        transfer.run(self.request.connections, lambda: report.now_and_then(transfer))

    def _transports(self, fetches: Callable[[], Sequence[Fetch]]) -> Iterator[Transport]:
        """What comes after a ``yield`` is asked only when that way has brought nothing for the whole patience."""
        request = self.request
        if is_object_store(request.endpoint):
            yield ObjectTransport(request.endpoint, request.repo, request.revision, self.commit)
            return
        http = HttpTransport(Repository(request.endpoint, request.repo, self.commit, request.token))
        yield http
        if xet := xet_transport.offered(http, self.hub):
            cause = next((fetch.cause for fetch in fetches() if fetch.failures), "")
            why = f"{http.name} brought nothing new for {request.give_up_after_seconds:g} s: {cause}"
            self.emit({"event": "notice", "transport": xet.name, "why": why})
            yield xet

    def _shards(self, files: Sequence[File]) -> Mapping[str, frozenset[str]]:
        index = next((file for file in files if file.path == INDEX), None)
        return named_shards(self.store.blob(index.digest).read_bytes()) if index else {}

    def _with_published(self, files: Sequence[File]) -> list[File]:
        """Also what the commit's published directory has: another choice of files may be in use."""
        published = read_manifest(self.store.model(self.request.repo, self.commit)).get("files", [])
        known = {entry["path"]: _published_file(entry) for entry in published}
        kept = [file for file in known.values() if self.store.has_blob(file)]
        return list({file.path: file for file in [*kept, *files]}.values())


class _Reporter:
    """Progress lines, one every few seconds."""

    def __init__(self, emit: Emit, may_end: Callable[[], None], meter: Meter, files: Sequence[File]) -> None:
        self._emit, self._may_end, self._meter, self._files = emit, may_end, meter, len(files)
        self._next = time.monotonic() + 1.0

    def now_and_then(self, transfer: Transfer) -> None:
        self._may_end()
        if time.monotonic() < self._next:
            return
        self.now([fetch for fetch in transfer.schedule.fetches if not fetch.done])

    def now(self, open_fetches: Sequence[Any]) -> None:
        self._next = time.monotonic() + REPORT_EVERY_SECONDS
        active = [fetch for fetch in open_fetches if fetch.workers or fetch.failures][:_MOST_NAMED_FILES]
        self._emit(
            {
                "event": "progress",
                **self._meter.reading(),
                "files_done": self._files - len(open_fetches),
                "files_total": self._files,
                "retries": self._meter.failures,
                "files": {
                    fetch.file.path: round(fetch.partial.arrived_bytes() / max(1, fetch.file.size_bytes), 3)
                    for fetch in active
                },
            }
        )


class _Waiting:
    """Says every few seconds whom the lock waits for."""

    def __init__(self, emit: Emit, may_end: Callable[[], None]) -> None:
        self._emit, self._may_end, self._next = emit, may_end, 0.0

    def __call__(self, holder: str) -> None:
        self._may_end()
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + REPORT_EVERY_SECONDS
            self._emit({"event": "progress", "waiting_for": f"{holder}, which writes to this store"})


def _resolved(request: Request, hub: Hub) -> HubCommit:
    manifest.refuse_no_repository(request.repo)
    started, tries = time.monotonic(), 0
    while True:
        try:
            commit = hub.resolve(request.repo, request.revision, request.endpoint)
        except Transient:
            if tries and time.monotonic() - started > request.give_up_after_seconds:
                raise
            time.sleep(backoff_seconds(tries))
            tries += 1
            continue
        if not re.fullmatch(r"[0-9a-f]{40}", commit.commit):
            raise Permanent(f"the hub names no commit for {request.revision!r}: check --endpoint")
        return commit


def _all_there(files: Sequence[File]) -> Meter:
    total = sum(file.size_bytes for file in files)
    return Meter(total, reused_bytes=total)


def _each_once(files: Iterable[File]) -> list[File]:
    return list({file.digest: file for file in files}.values())


def _published_file(entry: Mapping[str, Any]) -> File:
    return File(str(entry["path"]), int(entry["size_bytes"]), Digest.parse(entry["digest"]))


def as_line(report: Report) -> dict[str, Any]:
    """The last line of the command's output."""
    return {"event": "report", **asdict(report)}
