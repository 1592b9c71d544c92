"""Write replies, and a note of each in the journal."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from devcluster.hub.journal import Journal


class Refusal(NamedTuple):
    """An error reply; the original maps ``code`` (X-Error-Code) to an exception."""

    status: int
    code: str
    message: str


class Replies(BaseHTTPRequestHandler):
    """One connection that can reply; what to reply is for those who inherit to say."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    @property
    def journal(self) -> Journal:
        """Where replies are noted."""
        raise NotImplementedError

    @property
    def bearer(self) -> str:
        """The request's token."""
        return str(self.headers.get("Authorization") or "").removeprefix("Bearer ")

    def answer(self) -> None:
        """Reply to what only reads."""
        raise NotImplementedError

    def control(self) -> None:
        """Reply to what changes something."""
        raise NotImplementedError

    def do_GET(self) -> None:
        """See ``answer``."""
        self.answer()

    def do_HEAD(self) -> None:
        """See ``answer``."""
        self.answer()

    def do_POST(self) -> None:
        """See ``control``."""
        self.control()

    def do_DELETE(self) -> None:
        """See ``control``."""
        self.control()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name in the base class
        """Stay silent: the journal has it."""

    def _json(
        self, value: Any, headers: Mapping[str, str] | None = None, *, status: int = 200, note: bool = True
    ) -> None:
        body = json.dumps(value).encode()
        self._reply(status, {"Content-Type": "application/json", **(headers or {})}, body, note=note)

    def _refuse(self, refusal: Refusal, headers: Mapping[str, str] | None = None) -> None:
        codes = {"X-Error-Code": refusal.code} if refusal.code else {}
        described = {"X-Error-Message": refusal.message, **codes, **(headers or {})}
        self._json({"error": refusal.message}, described, status=refusal.status)

    def _repeat_token(self, status: int) -> None:
        """Write the token wherever a reply has room for it, as a debugging proxy may."""
        told = {"ETag": f'"{self.bearer}"', "X-Error-Message": self.bearer, "X-Repo-Commit": self.bearer}
        places = {206: {"Content-Range": f"bytes {self.bearer}"}, 302: {"Location": f"http://{self.bearer}.invalid/"}}
        self._reply(status, {**told, **places.get(status, {})}, self.bearer.encode())

    def _reply(self, status: int, headers: Mapping[str, str], body: bytes = b"", *, note: bool = True) -> None:
        self._head(status, {**headers, "Content-Length": str(len(body))})
        if self.command != "HEAD":
            self.wfile.write(body)
        if note:
            self.journal.replied(self.command, unquote(urlsplit(self.path).path), len(body))
            self._note(status, len(body))

    def _head(self, status: int, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()

    def _note(self, status: int, sent_bytes: int) -> None:
        path, asked = unquote(urlsplit(self.path).path), self.headers.get("Range")
        self.journal.note(self.command, path, status=status, sent_bytes=sent_bytes, range_header=asked)
