"""The hub's HTTP server: threads, keep-alive, ``sendfile``."""

from __future__ import annotations

import json
import socketserver
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from devcluster.hub import bodies, control, listings
from devcluster.hub.faults import BODY_KINDS, Fault, FaultBook
from devcluster.hub.journal import Journal
from devcluster.hub.repository import Commit, File, Repository

PAGE_ENTRIES = 1000
"""Entries of a tree listing per page, as the original."""


class Hub(ThreadingHTTPServer):
    """The server and its state: repositories, faults, journal.

    ``server_address`` is where it listens; port 0 picks a free one.
    """

    daemon_threads = True
    request_queue_size = 256

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
        super().__init__(address, Handler)

    def server_bind(self) -> None:
        """Bind without the reverse look-up of http.server, which hangs where no name server answers."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])


class Refusal(NamedTuple):
    """An error reply; the original maps ``code`` (X-Error-Code) to an exception."""

    status: int
    code: str
    message: str


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Hub

    def do_GET(self) -> None:
        """Serve everything that is read."""
        self._answer()

    def do_HEAD(self) -> None:
        """Serve the headers of a GET."""
        self._answer()

    def do_POST(self) -> None:
        """Serve the control endpoints."""
        self._control(urlsplit(self.path).path)

    def do_DELETE(self) -> None:
        """Serve the control endpoints."""
        self._control(urlsplit(self.path).path)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name in the base class
        """Stay silent: the journal has it."""

    def _answer(self) -> None:
        url = urlsplit(self.path)
        path, query = unquote(url.path), {key: values[-1] for key, values in parse_qs(url.query).items()}
        if path in control.PATHS:
            self._control(path)
        elif not self._shows_fault(path):
            self._route(path, query)

    def _control(self, path: str) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        status, reply = control.handle(self.server, self.command, path, body)
        self._json(reply, status=status, note=False)

    def _shows_fault(self, path: str) -> bool:
        bearer = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        fault = self.server.faults.take(self._names(path), {"status", "gated"}, bearer)
        if fault is None:
            return False
        if fault.kind == "gated":
            self._refuse(Refusal(403, "GatedRepo", "Access to this repository is restricted."))
            return True
        extra = {"Retry-After": str(fault.retry_after)} if fault.retry_after is not None else {}
        self._refuse(Refusal(fault.status, fault.error_code, "A fault of the devcluster hub."), extra)
        return True

    def _names(self, path: str) -> tuple[str, ...]:
        """The URL path and, for files, ``ORG/NAME/FILE``: what faults are matched with."""
        if path.startswith("/lfs/"):
            known = self.server.blobs.get(path.removeprefix("/lfs/"))
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
        repository = self.server.repositories.get(repo)
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
        end = start + self.server.page_entries
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
            headers["Location"] = f"/lfs/{file.sha256}?commit={commit.sha}"
            self._reply(HTTPStatus.FOUND, headers)

    def _blob(self, sha256: str, commit: str) -> None:
        known = self.server.blobs.get(sha256)
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
        start, end = part
        if fault is not None and fault.kind == "truncate":
            end = min(end, start + fault.bytes)
        status = HTTPStatus.PARTIAL_CONTENT if asked else HTTPStatus.OK
        described = {**headers, "ETag": f'"{file.etag}"', "Accept-Ranges": "bytes", "Content-Length": str(end - start)}
        if asked:
            described["Content-Range"] = f"bytes {start}-{end - 1}/{file.size_bytes}"
        self._send_file(file, status, described, (start, end), fault)

    def _body_fault(self) -> Fault | None:
        if self.command != "GET":
            return None
        kinds = BODY_KINDS if self.headers.get("Range") else BODY_KINDS - {"ignore_range"}
        return self.server.faults.take(self._names(unquote(urlsplit(self.path).path)), kinds)

    def _send_file(
        self, file: File, status: int, headers: Mapping[str, str], part: tuple[int, int], fault: Fault | None
    ) -> None:
        self._head(status, headers)
        sent = 0
        try:
            if self.command == "GET":
                sent = bodies.send(self.connection, file.source, *part, fault)
        finally:
            self._note(status, sent)
        if not bodies.keeps_connection(fault):
            self.close_connection = True

    def _json(
        self, value: Any, headers: Mapping[str, str] | None = None, *, status: int = 200, note: bool = True
    ) -> None:
        body = json.dumps(value).encode()
        self._reply(status, {"Content-Type": "application/json", **(headers or {})}, body, note=note)

    def _refuse(self, refusal: Refusal, headers: Mapping[str, str] | None = None) -> None:
        codes = {"X-Error-Code": refusal.code} if refusal.code else {}
        described = {"X-Error-Message": refusal.message, **codes, **(headers or {})}
        self._json({"error": refusal.message}, described, status=refusal.status)

    def _reply(self, status: int, headers: Mapping[str, str], body: bytes = b"", *, note: bool = True) -> None:
        self._head(status, {**headers, "Content-Length": str(len(body))})
        if self.command != "HEAD":
            self.wfile.write(body)
        if note:
            self._note(status, len(body))

    def _head(self, status: int, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()

    def _note(self, status: int, sent_bytes: int) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server.journal.note(
            self.command, path, status=status, sent_bytes=sent_bytes, range_header=self.headers.get("Range")
        )
