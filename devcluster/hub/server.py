"""The hub's HTTP server: threads, keep-alive, ``sendfile``."""

from __future__ import annotations

import socketserver
import sys
import threading
from collections.abc import Mapping
from http import HTTPStatus
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from devcluster.hub import bodies, control, listings
from devcluster.hub.faults import ANSWER_KINDS, BODY_KINDS, RANGE_KINDS, Fault, FaultBook
from devcluster.hub.journal import Journal
from devcluster.hub.replies import Refusal, Replies
from devcluster.hub.repository import Commit, File, Repository
from devcluster.hub.signed import SignedAddresses

PAGE_ENTRIES = 1000
"""Entries of a tree listing per page, as the original."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def server_bind(self) -> None:
        """Bind without the reverse look-up of http.server, which hangs where no name server answers."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Stay silent about a reader that went away: it may have been killed, and the journal has what it got."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class Hub(_Server):
    """The server and its state: repositories, faults, journal.

    ``server_address`` is where it listens; port 0 picks a free one.
    """

    def __init__(
        self,
        address: tuple[str, int],
        repositories: Mapping[str, Repository],
        *,
        branches_file: Path | None = None,
        echo: bool = False,
        page_entries: int = PAGE_ENTRIES,
    ) -> None:
        """Listen on ``address``; ``branches_file`` keeps moved branches over restarts."""
        self.repositories = repositories
        self.branches = control.Branches(repositories, branches_file)
        self.faults = FaultBook()
        self.journal = Journal(echo=echo)
        self.page_entries = page_entries
        self.blobs = {
            file.sha256: (file, f"{repository.name}/{file.path}")
            for repository in repositories.values()
            for commit in repository.commits.values()
            for file in commit.files.values()
            if file.sha256
        }
        self._storage: Storage | None = None
        self._storage_lock = threading.Lock()
        super().__init__(address, Handler)

    def storage(self) -> Storage:
        """The other origin, started when the first address there is given out."""
        with self._storage_lock:
            if self._storage is None:
                self._storage = Storage(self)
            return self._storage

    def server_close(self) -> None:
        """Close the other origin as well."""
        if self._storage is not None:
            self._storage.end()
        super().server_close()


class Storage(_Server):
    """Where signed addresses lead."""

    def __init__(self, hub: Hub) -> None:
        """Serve at once, on a free port beside the hub's."""
        self.hub = hub
        self.addresses = SignedAddresses()
        super().__init__((hub.server_name, 0), StorageHandler)
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def address(self, sha256: str, seconds: float, uses: int | None) -> str:
        """A signed address of a file."""
        return f"http://{self.server_name}:{self.server_port}{self.addresses.issue(sha256, seconds, uses)}"

    def end(self) -> None:
        """Stop serving."""
        self.shutdown()
        self.server_close()
        self._thread.join()


class Handler(Replies):
    """One connection to the hub."""

    server: Hub | Storage

    @property
    def hub(self) -> Hub:
        """Whose files are served."""
        return self.server if isinstance(self.server, Hub) else self.server.hub

    @property
    def journal(self) -> Journal:
        """The hub's."""
        return self.hub.journal

    def answer(self) -> None:
        """Serve everything that is read."""
        with self.journal.answering():
            self._answer()

    def _answer(self) -> None:
        url = urlsplit(self.path)
        path, query = unquote(url.path), {key: values[-1] for key, values in parse_qs(url.query).items()}
        if path in control.PATHS:
            self._control(path)
        elif not self._shows_fault(path):
            self._route(path, query)

    def control(self) -> None:
        """Serve the control endpoints."""
        self._control(urlsplit(self.path).path)

    def _control(self, path: str) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        status, reply = control.handle(self.hub, self.command, path, body)
        self._json(reply, status=status, note=False)

    def _shows_fault(self, path: str) -> bool:
        fault = self.hub.faults.take(self._names(path), ANSWER_KINDS, self.bearer)
        if fault is None:
            return False
        if fault.kind == "gated":
            self._refuse(Refusal(403, "GatedRepo", "Access to this repository is restricted."))
        elif fault.kind == "repeat_token":
            self._repeat_token(fault.status)
        else:
            extra = {"Retry-After": str(fault.retry_after)} if fault.retry_after is not None else {}
            self._refuse(Refusal(fault.status, fault.error_code, "A fault of the devcluster hub."), extra)
        return True

    def _names(self, path: str) -> tuple[str, ...]:
        """The URL path and, for files, ``ORG/NAME/FILE``: what faults are matched with."""
        folder, _, sha256 = path.strip("/").partition("/")
        if folder in {"lfs", "signed"}:
            known = self.hub.blobs.get(sha256)
            return (path, known[1]) if known else (path,)
        parts = path.strip("/").split("/", 4)
        if len(parts) == 5 and parts[2] == "resolve":  # noqa: PLR2004 - ORG NAME resolve REVISION FILE
            return path, f"{parts[0]}/{parts[1]}/{parts[4]}"
        return (path,)

    def _route(self, path: str, query: Mapping[str, str]) -> None:
        match path.strip("/").split("/"):
            case ["api", "models", org, name]:
                self._model(f"{org}/{name}", "main", query)
            case ["api", "models", org, name, "revision", *revision]:
                self._model(f"{org}/{name}", "/".join(revision), query)
            case ["api", "models", org, name, "tree", revision, *folder]:
                self._tree(f"{org}/{name}", revision, "/".join(folder), query)
            case [org, name, "resolve", revision, *file]:
                self._resolve(f"{org}/{name}", revision, "/".join(file))
            case ["lfs", sha256]:
                self._blob(sha256, query.get("commit", ""))
            case _:
                self._refuse(Refusal(404, "", f"Nothing is served at {path}."))

    def _commit(self, repo: str, revision: str) -> Commit | None:
        repository = self.hub.repositories.get(repo)
        if repository is None:
            self._refuse(Refusal(401, "RepoNotFound", "Repository not found."))
            return None
        commit = repository.resolve(revision)
        if commit is None:
            self._refuse(Refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}"))
        return commit

    def _model(self, repo: str, revision: str, query: Mapping[str, str]) -> None:
        if commit := self._commit(repo, revision):
            self._json(listings.model_info(repo, commit, blobs=query.get("blobs", "").lower() in {"true", "1"}))

    def _tree(self, repo: str, revision: str, folder: str, query: Mapping[str, str]) -> None:
        commit = self._commit(repo, revision)
        if commit is None:
            return
        entries = listings.tree(commit, folder, recursive=query.get("recursive", "").lower() in {"true", "1"})
        if folder and not entries:
            self._refuse(Refusal(404, "EntryNotFound", f"{folder} does not exist in {commit.sha}."))
            return
        start = int(query.get("cursor", "0"))
        end = start + self.hub.page_entries
        url = f"http://{self.headers.get('Host')}{urlsplit(self.path).path}"
        next_page = f'<{url}?recursive={query.get("recursive", "false")}&cursor={end}>; rel="next"'
        self._json(entries[start:end], {"Link": next_page} if end < len(entries) else {})

    def _resolve(self, repo: str, revision: str, path: str) -> None:
        commit = self._commit(repo, revision)
        if commit is None:
            return
        file = commit.files.get(path)
        headers = {"X-Repo-Commit": commit.sha}
        if file is None:
            self._refuse(Refusal(404, "EntryNotFound", f"{path} does not exist in {commit.sha}."), headers)
        elif file.sha256 is None:
            self._file(file, headers)
        else:
            headers |= {"X-Linked-Etag": f'"{file.sha256}"', "X-Linked-Size": str(file.size_bytes)}
            headers["Location"] = self._location(file.sha256, commit)
            self._reply(HTTPStatus.FOUND, headers)

    def _location(self, sha256: str, commit: Commit) -> str:
        signed = self.hub.faults.take(self._names(unquote(urlsplit(self.path).path)), {"signed"})
        if signed is None:
            return f"/lfs/{sha256}?commit={commit.sha}"
        return self.hub.storage().address(sha256, signed.seconds, signed.uses)

    def _blob(self, sha256: str, commit: str) -> None:
        known = self.hub.blobs.get(sha256)
        if known is None:
            self._refuse(Refusal(404, "EntryNotFound", f"No file has the sha256 {sha256}."))
        else:
            self._file(known[0], {"X-Repo-Commit": commit} if commit else {})

    def _file(self, file: File, headers: Mapping[str, str]) -> None:
        fault = self._body_fault()
        ignore_range = fault is not None and fault.kind == "ignore_range"
        asked = None if ignore_range else self.headers.get("Range")
        part = bodies.requested_range(asked, file.size_bytes)
        if part is None:
            self._reply(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, {"Content-Range": f"bytes */{file.size_bytes}"})
            return
        status = HTTPStatus.PARTIAL_CONTENT if asked else HTTPStatus.OK
        part, content_range = bodies.under_fault(part, file.size_bytes, fault)
        length = str(part[1] - part[0])
        described = {**headers, "ETag": f'"{file.etag}"', "Accept-Ranges": "bytes", "Content-Length": length}
        if asked:
            described["Content-Range"] = content_range
        self._send_file(file, status, described, part, fault)

    def _body_fault(self) -> Fault | None:
        if self.command != "GET":
            return None
        kinds = BODY_KINDS if self.headers.get("Range") else BODY_KINDS - RANGE_KINDS
        return self.hub.faults.take(self._names(unquote(urlsplit(self.path).path)), kinds)

    def _send_file(
        self, file: File, status: int, headers: Mapping[str, str], part: bodies.Part, fault: Fault | None
    ) -> None:
        self._head(status, headers)
        path, sent_bytes = unquote(urlsplit(self.path).path), 0
        try:
            for piece in bodies.send(self.connection, file.source, part, fault) if self.command == "GET" else ():
                self.journal.sent(self.command, path, piece)
                sent_bytes += piece[1] - piece[0]
        finally:
            self._note(status, sent_bytes)
        if not bodies.keeps_connection(fault):
            self.close_connection = True


class StorageHandler(Handler):
    """One connection to the other origin."""

    def _answer(self) -> None:
        url = urlsplit(self.path)
        path, query = unquote(url.path), {key: values[-1] for key, values in parse_qs(url.query).items()}
        sha256 = path.removeprefix("/signed/")
        known, refusal = self.hub.blobs.get(sha256), self._refusal(sha256, query)
        if known is None or refusal is not None:
            body = f"<Error><Code>AccessDenied</Code><Message>{refusal}</Message></Error>".encode()
            self._reply(HTTPStatus.FORBIDDEN, {"Content-Type": "application/xml"}, body)
        elif not self._shows_fault(path):
            self._file(known[0], {})

    def _refusal(self, sha256: str, query: Mapping[str, str]) -> str | None:
        if self.bearer:
            return "Only one auth mechanism allowed"
        return self.hub.storage().addresses.refusal(sha256, query)
