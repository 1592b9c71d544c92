"""Models in S3, in Google Cloud Storage and in plain directories: where they lie, and what their manifests say.

``ORG/NAME`` at revision ``REV`` is the folder ``ENDPOINT/ORG/NAME/REV/``: its files, and ``.manifest.json`` as a store
publishes it and ``llm-rollout manifest`` writes it. A commit is also found where its folder has another name.

Credentials come from the environment as ``obstore`` reads it (``AWS_*``, ``GOOGLE_*``). What the library and the
servers write is not repeated in messages: it holds signatures.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from llm_rollout.errors import Permanent, Transient
from llm_rollout.ports import HubCommit
from llm_rollout.staging import manifest
from llm_rollout.staging.listing import MANIFEST

ASK_SECONDS = 30.0
"""A manifest that does not begin to come within so long is asked for again."""
_BLOCK_BYTES = 1024 * 1024
"""What the library gathers before it hands anything over."""
_MOST_MANIFEST_BYTES = 64 * 1024 * 1024
_COMMIT = re.compile(r"[0-9a-f]{40}")
_STATUS = re.compile(r"status code: (\d{3})")
_RETRIED = {408, 409, 416, 425, 429}
_CAUSES = {
    "kind: Connect": "cannot be reached",
    "TimedOut": "brought no byte for {seconds:g} s",
    "Timeout": "brought no byte for {seconds:g} s",
    "Incomplete": "broke off",
}
"""By what the library's errors hold."""
_KEYS = {
    "s3": "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, where it is not Amazon's, AWS_ENDPOINT",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
    "file": "the mode and the owner of the directory",
}
_NO_CREDENTIALS = ("169.254.169.254", "metadata.google.internal")
"""Where the library asks for a machine's own credentials when the environment holds none."""


def is_object_store(endpoint: str) -> bool:
    """Whether the endpoint is ``s3://``, ``gs://`` or ``file://`` and not a hub."""
    return urlsplit(endpoint).scheme in _KEYS


@dataclass(frozen=True)
class Found:
    """A revision's folder, relative to the endpoint, and the commit that its manifest names."""

    folder: str
    commit: HubCommit


class ObjectSource:
    """One endpoint. Safe to use from many threads."""

    def __init__(self, endpoint: str, stall_seconds: float = ASK_SECONDS) -> None:
        """Open it; nothing is asked yet, except whether a directory is there.

        Raises:
            Permanent: The endpoint cannot be used.
        """
        self.endpoint = endpoint.rstrip("/")
        self._scheme = urlsplit(endpoint).scheme
        self._stall_seconds = stall_seconds
        self._store = self._opened()

    def find(self, repo: str, revision: str) -> Found:
        """The folder of a revision.

        Raises:
            Permanent: It is not there, may not be read, or its manifest is none.
            Transient: The object store did not answer.
        """
        if any(part in {"", ".", ".."} for part in [*repo.split("/"), *revision.split("/")]):
            raise Permanent(f"revision {revision!r} of {repo} cannot be a folder of {self.endpoint}: name another one")
        found = self._at(f"{repo}/{revision}")
        if found is None and _COMMIT.fullmatch(revision):
            found = next((one for one in self._readable(repo) if one.commit.commit == revision), None)
        if found is None:
            raise Permanent(
                f"{self.endpoint}/{repo}/{revision}/{MANIFEST} is not there: check model.repo, model.revision and "
                "model.endpoint; where only the manifest is missing, llm-rollout manifest writes it"
            )
        return found

    def get(self, path: str, part: tuple[int, int] | None = None) -> Any:
        """The library's answer for a file, or for a part of it.

        Raises:
            FileNotFoundError: It is not there.
            Permanent: It may not be read.
            Transient: Anything that may be different next time.
        """
        import obstore  # noqa: PLC0415 - only where it is needed

        try:
            return obstore.get(self._store, path, options={"range": part} if part else None)
        except FileNotFoundError:
            raise
        except Exception as error:  # noqa: BLE001 - the library's own kinds, and Python's
            raise self.explained(error, path) from None

    def blocks(self, answer: Any, path: str, part: tuple[int, int]) -> Iterator[Any]:
        """The bytes of an answer, block by block; what breaks raises the library's errors."""
        import obstore  # noqa: PLC0415 - only where it is needed

        if self._scheme != "file":
            return iter(answer.stream(min_chunk_size=_BLOCK_BYTES))
        # Streamed, a local file comes in pieces of 8 KiB, for twice the CPU.
        starts = range(*part, _BLOCK_BYTES)
        return (obstore.get_range(self._store, path, start=at, end=min(at + _BLOCK_BYTES, part[1])) for at in starts)

    def explained(self, error: Exception, path: str) -> Permanent | Transient:
        """What happened, in words of our own."""
        text, place = str(error), f"{self.endpoint}/{path}"
        if any(address in text for address in _NO_CREDENTIALS):
            return Permanent(f"no credentials for {self.endpoint}: set {self._keys()}")
        if type(error).__name__ in {"PermissionDeniedError", "UnauthenticatedError"}:
            return Permanent(f"{place} may not be read: check {self._keys()}")
        if found := _STATUS.search(text):
            status, said = int(found[1]), f"{place} was answered with {found[1]}"
            if status in _RETRIED or status >= 500:  # noqa: PLR2004 - server errors
                return Transient(said)
            return Permanent(f"{said}: check model.endpoint, the bucket's region (AWS_REGION) and {self._keys()}")
        other = f"could not be read ({type(error).__name__})"
        words = next((words for sign, words in _CAUSES.items() if sign in text), other)
        return Transient(f"{place} {words.format(seconds=self._stall_seconds)}")

    def _keys(self) -> str:
        return _KEYS[self._scheme] + ("" if self._scheme == "file" else " (model.source_secret)")

    def _opened(self) -> Any:
        from obstore.store import LocalStore, from_url  # noqa: PLC0415 - only where it is needed

        url = urlsplit(self.endpoint)
        if url.username or url.password or url.query or (self._scheme != "file") == (not url.hostname):
            raise Permanent("--endpoint must be s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or file:///DIRECTORY alone")
        limit = f"{max(1, round(self._stall_seconds * 1000))}ms"
        # The library's limit for a whole request is 30 s, which a slow line needs for a part that it does bring.
        client = {"connect_timeout": limit, "read_timeout": limit, "timeout": "1d", "allow_http": True}
        try:
            if self._scheme == "file":
                return LocalStore.from_url(self.endpoint)
            return from_url(self.endpoint, client_options=client, retry_config={"max_retries": 0})  # type: ignore[call-overload]
        except Exception as error:  # noqa: BLE001 - the library's own kinds, and Python's
            remedy = "check the path" if self._scheme == "file" else f"check it, and {self._keys()}"
            raise Permanent(f"{self.endpoint} cannot be opened ({type(error).__name__}): {remedy}") from None

    def _at(self, folder: str) -> Found | None:
        path = f"{folder}/{MANIFEST}"
        try:
            answer = self.get(path)
        except FileNotFoundError:
            return None
        if answer.meta["size"] > _MOST_MANIFEST_BYTES:
            raise Permanent(f"{self.endpoint}/{path} is too large for a manifest: write it with llm-rollout manifest")
        try:
            content = bytes(answer.bytes())
        except Exception as error:  # noqa: BLE001 - the library's own kinds, and Python's
            raise self.explained(error, path) from None
        return Found(folder, manifest.parsed(content, f"{self.endpoint}/{path}"))

    def _readable(self, repo: str) -> Iterator[Found]:
        """Every revision of a repository; one whose manifest is none hides no other."""
        for folder in self._folders(repo):
            with contextlib.suppress(Permanent):
                if found := self._at(folder):
                    yield found

    def _folders(self, repo: str) -> list[str]:
        import obstore  # noqa: PLC0415 - only where it is needed

        try:
            return sorted(obstore.list_with_delimiter(self._store, f"{repo}/")["common_prefixes"])
        except FileNotFoundError:
            return []
        except Exception as error:  # noqa: BLE001 - the library's own kinds, and Python's
            raise self.explained(error, repo) from None
