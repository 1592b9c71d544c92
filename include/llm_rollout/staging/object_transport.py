"""Read byte ranges of files that lie in S3, in Google Cloud Storage or in a plain directory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from llm_rollout.errors import Permanent, Transient
from llm_rollout.staging.listing import File
from llm_rollout.staging.object_source import ObjectSource


class ObjectTransport:
    """``transport.Transport`` of one revision's folder."""

    name = "object store"

    def __init__(self, endpoint: str, repo: str, revision: str, commit: str) -> None:
        """Open nothing yet."""
        self._endpoint, self._repo, self._revision, self._commit = endpoint, repo, revision, commit
        self._opened: tuple[ObjectSource, str] | None = None

    def connect(self, stall_seconds: float) -> ObjectConnection:
        """See ``transport.Transport``."""
        return ObjectConnection(self, stall_seconds)

    def distrust(self, file: File) -> None:
        """Nothing is remembered about single files."""

    def opened(self, stall_seconds: float) -> tuple[ObjectSource, str]:
        """The source and the folder in it. Connections that begin together may each look it up: none waits for another.

        Raises:
            Permanent: The folder is gone.
            Transient: The object store did not answer, or the folder holds another commit by now.
        """
        if self._opened is None:
            source = ObjectSource(self._endpoint, stall_seconds)
            found = source.find(self._repo, self._revision)
            if found.commit.commit != self._commit:
                raise Transient(f"{self._repo} at {self._revision} has become another commit: run it again")
            self._opened = source, found.folder
        return self._opened


class ObjectConnection:
    """One worker's reader of ranges. The connections themselves are the library's."""

    def __init__(self, transport: ObjectTransport, stall_seconds: float) -> None:
        """Open nothing yet."""
        self._transport = transport
        self._stall_seconds = stall_seconds
        self._blocks: Iterator[Any] = iter(())
        self._block = memoryview(b"")

    def request(self, file: File, start: int, end: int) -> None:
        """See ``transport.Connection``."""
        self.finish()
        self._source, folder = self._transport.opened(self._stall_seconds)
        self._path = f"{folder}/{file.path}"
        place = f"{self._source.endpoint}/{self._path}"
        try:
            answer = self._source.get(self._path, (start, end))
        except FileNotFoundError:
            raise Permanent(f"{place} is not there although the manifest names it: upload it again") from None
        if answer.meta["size"] != file.size_bytes or answer.range != (start, end):
            raise Transient(
                f"{place} has another length than {file.size_bytes} bytes, as the manifest says: upload it again"
            )
        self._blocks = self._source.blocks(answer, self._path, (start, end))

    def read(self, buffer: memoryview) -> int:
        """Fill ``buffer`` as far as one read does; 0 at the end of the answer. Raises Transient on a broken one."""
        if not self._block:
            try:
                self._block = memoryview(next(self._blocks, b""))
            except Exception as error:  # noqa: BLE001 - the library's own kinds, and Python's
                self.finish()
                raise Transient(str(self._source.explained(error, self._path))) from None
        count = min(len(buffer), len(self._block))
        buffer[:count] = self._block[:count]
        self._block = self._block[count:]
        return count

    def finish(self) -> None:
        """Be done with the answer."""
        self._blocks, self._block = iter(()), memoryview(b"")

    def close(self) -> None:
        """Let everything go."""
        self.finish()
