"""A hub that also serves its large files over Xet, by the protocol of the original's content store.

What it simplifies, and no reader notices: a file's Xet hash is made from its SHA-256 instead of a tree of chunk hashes,
chunks are as long as each other and not compressed, and one file's xorbs lie behind each other at one address.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import unquote, urlsplit

from devcluster.hub import bodies
from devcluster.hub.replies import Refusal
from devcluster.hub.repository import File, Repository
from devcluster.hub.server import Handler, Hub

CHUNK_BYTES = 64 * 1024
XORB_CHUNKS = 1000
"""A xorb of the original has 64 MiB at most."""
_HEADER_BYTES = 8


def xet_hash(sha256: str) -> str:
    """By which the content store knows a file."""
    return hashlib.sha256(f"xet:{sha256}".encode()).hexdigest()


class XetHub(Hub):
    """``Hub`` with a content store at the same address. Faults match its paths, ``/xorbs/SHA256`` for the bytes."""

    def __init__(
        self, address: tuple[str, int], repositories: Mapping[str, Repository], folder: Path, token_seconds: float = 600
    ) -> None:
        """Write the xorbs into ``folder``; a token that was given out holds for ``token_seconds``."""
        super().__init__(address, repositories)
        self.RequestHandlerClass = XetHandler
        self.token_seconds = token_seconds
        self.without_hash: set[str] = set()
        """SHA-256 of files that are listed without a Xet hash."""
        self.xorbs = {sha256: _packed(file, folder / sha256) for sha256, (file, _) in self.blobs.items()}
        self.by_hash = {xet_hash(sha256): file for sha256, (file, _) in self.blobs.items()}
        self._tokens: dict[str, float] = {}

    def new_token(self) -> tuple[str, int]:
        """A token for the content store, and until when it holds."""
        token, until = f"cas_{secrets.token_hex(8)}", time.time() + self.token_seconds
        self._tokens[token] = until
        return token, int(until)

    def knows(self, token: str) -> bool:
        """Whether the token was given out and still holds."""
        return self._tokens.get(token, 0.0) > time.time()


class XetHandler(Handler):
    """One connection."""

    server: XetHub

    def _route(self, path: str, query: Mapping[str, str]) -> None:
        match path.strip("/").split("/"):
            case ["api", "models", org, name, "xet-read-token", revision]:
                self._token(f"{org}/{name}", revision)
            case ["v1", "reconstructions", known] if file := self.server.by_hash.get(known):
                self._reconstruction(file)
            case ["xorbs", sha256] if file := self.server.xorbs.get(sha256):
                self._file(file, {})
            case _:
                super()._route(path, query)

    def _token(self, repo: str, revision: str) -> None:
        if self._commit(repo, revision):
            (token, until), address = self.server.new_token(), f"http://{self.headers['Host']}"
            # The hub's own client reads the headers, hf_xet the body.
            headers = {"X-Xet-Cas-Url": address, "X-Xet-Access-Token": token, "X-Xet-Token-Expiration": str(until)}
            self._json({"accessToken": token, "exp": until, "casUrl": address}, headers)

    def _reconstruction(self, file: File) -> None:
        part = bodies.requested_range(self.headers.get("Range"), file.size_bytes)
        if not self.server.knows(self.bearer):
            self._refuse(Refusal(401, "", "Another token is needed."))
        elif part is None:
            self._refuse(Refusal(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, "", "The file ends before."))
        else:
            self._json(reconstruction(file, part, f"http://{self.headers['Host']}/xorbs/{file.sha256}"))

    def _json(
        self, value: Any, headers: Mapping[str, str] | None = None, *, status: int = 200, note: bool = True
    ) -> None:
        is_tree = "/tree/" in unquote(urlsplit(self.path).path) and isinstance(value, list)
        super()._json(self._with_hashes(value) if is_tree else value, headers, status=status, note=note)

    def _with_hashes(self, entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
        known = {sha256 for sha256 in self.server.blobs if sha256 not in self.server.without_hash}
        digests = [entry.get("lfs", {}).get("oid") for entry in entries]
        return [
            {**entry, "xetHash": xet_hash(sha256)} if sha256 in known else entry
            for entry, sha256 in zip(entries, digests, strict=True)
        ]


def reconstruction(file: File, part: bodies.Part, address: str) -> dict[str, Any]:
    """Which chunks of which xorbs hold that part of the file, and where they lie."""
    first, end = part[0] // CHUNK_BYTES, -(-part[1] // CHUNK_BYTES)
    terms, places = [], {}
    for xorb in range(first // XORB_CHUNKS, -(-end // XORB_CHUNKS)):
        base, name = xorb * XORB_CHUNKS, hashlib.sha256(f"{file.sha256}/{xorb}".encode()).hexdigest()
        start, stop = max(first, base), min(end, base + XORB_CHUNKS)
        length = min(stop * CHUNK_BYTES, file.size_bytes) - start * CHUNK_BYTES
        chunks = {"start": start - base, "end": stop - base}
        packed = {
            "start": start * (CHUNK_BYTES + _HEADER_BYTES),
            "end": start * (CHUNK_BYTES + _HEADER_BYTES) + length + (stop - start) * _HEADER_BYTES - 1,
        }
        terms.append({"hash": name, "unpacked_length": length, "range": chunks})
        places[name] = [{"range": chunks, "url": address, "url_range": packed}]
    return {"offset_into_first_range": part[0] - first * CHUNK_BYTES, "terms": terms, "fetch_info": places}


def _packed(file: File, place: Path) -> File:
    """The file's chunks, each behind its header: version 0, packed length, no compression, length."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with file.source.open("rb") as source, place.open("wb") as packed:
        _pack(source, packed)
    return File(place.name, place.stat().st_size, file.git_sha1, file.sha256, place)


def _pack(source: BinaryIO, packed: BinaryIO) -> None:
    while chunk := source.read(CHUNK_BYTES):
        length = len(chunk).to_bytes(3, "little")
        packed.write(b"\0" + length + b"\0" + length + chunk)
