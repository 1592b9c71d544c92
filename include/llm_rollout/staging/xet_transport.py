"""Read byte ranges of a repository's files over Xet, by the public stream API of ``hf_xet``.

The library asks the hub for a token of the content store and renews it; the hub's own token goes to the hub only. It
checks no content: digests are compared as over HTTP. Its errors are not repeated: they hold signed addresses.
"""

from __future__ import annotations

import atexit
import importlib.util
import os
import queue
import shutil
import tempfile
import threading
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from llm_rollout.errors import Transient
from llm_rollout.staging.http_transport import HttpTransport
from llm_rollout.staging.listing import File
from llm_rollout.staging.transport import Connection

OFFER_SECONDS = 30.0
"""Within so long the hub has to name the files' Xet hashes and a content store."""
PIECE_BYTES = 4 * 1024 * 1024
"""The library answers a request as a whole, so one asks for no more. A connection holds two: 64 hold half a GiB."""
_PATIENCE = 2
"""A piece may take so many times the stall limit: 4 MiB in a minute is slow, but no stall."""


@runtime_checkable
class XetListing(Protocol):
    """A hub that says how its files are called over Xet."""

    def xet_hashes(self, repo: str, commit: str, endpoint: str) -> Mapping[str, str]:
        """By path, the Xet hash of each file that has one. Raises Permanent or Transient where the hub does not say."""


def offered(http: HttpTransport, hub: object) -> XetTransport | None:
    """Xet in place of ``http``, None where the library, the hashes or a content store are missing.

    Asked in a thread that is left behind after ``OFFER_SECONDS``: the hub's library knows no timeout for listings.
    """
    found: list[XetTransport] = []
    if importlib.util.find_spec("hf_xet") is None or not isinstance(hub, XetListing):
        return None
    asking = threading.Thread(target=_ask, args=(http, hub, found), daemon=True)
    asking.start()
    asking.join(OFFER_SECONDS)
    return found[0] if found else None


def _ask(http: HttpTransport, hub: XetListing, found: list[XetTransport]) -> None:
    repository = http.repository
    try:
        hashes = hub.xet_hashes(repository.repo, repository.commit, repository.endpoint)
        if hashes:
            XetTransport(http, hashes).open_group(OFFER_SECONDS)
            found.append(XetTransport(http, hashes))
    except Exception:  # noqa: BLE001, S110 - whatever it is, Xet cannot be had; the cause that counts is that of HTTP
        pass


class XetTransport:
    """``transport.Transport`` over Xet. Files without a Xet hash, the small ones, keep coming over HTTP."""

    name = "Xet"

    def __init__(self, http: HttpTransport, hashes: Mapping[str, str]) -> None:
        """``hashes`` by path; nothing is opened yet."""
        self.http = http
        self.hashes = hashes
        self._session: Any = None
        self._lock = threading.Lock()

    def connect(self, stall_seconds: float) -> XetConnection:
        """See ``transport.Transport``."""
        return XetConnection(self, stall_seconds)

    def distrust(self, file: File) -> None:
        """Over Xet nothing is remembered: each piece is looked up anew."""
        self.http.distrust(file)

    def open_group(self, stall_seconds: float) -> Any:
        """A group of streams with a token of its own.

        The library's time limits hold for everything that the session of the first call reads.
        """
        repository = self.http.repository
        address = f"{repository.endpoint.rstrip('/')}/api/models/{repository.repo}/xet-read-token/{repository.commit}"
        return self._open_session(stall_seconds).new_download_stream_group(
            token_refresh_url=address, token_refresh_headers=self.http.headers(address)
        )

    def forget_session(self) -> None:
        """The library hangs: what comes next starts anew."""
        with self._lock:
            self._session = None

    def _open_session(self, stall_seconds: float) -> Any:
        import hf_xet  # type: ignore[import-untyped] # noqa: PLC0415 - only where it is needed

        limit = f"{max(1, round(stall_seconds * 1000))}ms"
        settings = {
            "client.connect_timeout": limit,
            "client.read_timeout": limit,
            "client.retry_max_duration": limit,
            # Trying again is the transfer's work: it knows what else there is to do meanwhile.
            "client.retry_max_attempts": 0,
            "telemetry.enabled": False,
        }
        with self._lock:
            if self._session is None:
                _give_the_library_a_place()
                self._session = hf_xet.XetSession(hf_xet.XetConfig().with_config(settings))
            return self._session


def _give_the_library_a_place() -> None:
    """It writes a log, and fails where it cannot: not every container has a home directory."""
    if not {"HF_XET_CACHE", "HF_HOME"} & set(os.environ):
        os.environ["HF_XET_CACHE"] = tempfile.mkdtemp(prefix="llm-rollout-xet-")
        atexit.register(shutil.rmtree, os.environ["HF_XET_CACHE"], ignore_errors=True)


class XetConnection:
    """One worker's reader of ranges. Not safe to share between threads."""

    def __init__(self, transport: XetTransport, stall_seconds: float) -> None:
        """Open nothing yet."""
        self._transport = transport
        self._stall_seconds = stall_seconds
        self._plain: Connection = transport.http.connect(stall_seconds)
        self._is_plain = False
        self._reader: _Reader | None = None
        self._block = memoryview(b"")
        self._pieces: list[tuple[int, int]] = []
        self._expected = 0

    def request(self, file: File, start: int, end: int) -> None:
        """See ``transport.Connection``; what fails over Xet shows in ``read``."""
        self.finish()
        xet_hash = self._transport.hashes.get(file.path)
        self._is_plain = xet_hash is None
        if xet_hash is None:
            self._plain.request(file, start, end)
            return
        self._file, self._hash = file, xet_hash
        self._pieces = [(at, min(at + PIECE_BYTES, end)) for at in range(start, end, PIECE_BYTES)]
        self._ask()

    def read(self, buffer: memoryview) -> int:
        """Fill ``buffer`` as far as one read does; 0 at the end of the answer. Raises Transient on a broken one."""
        if self._is_plain:
            return self._plain.read(buffer)
        if not self._block and self._expected:
            self._block = memoryview(self._next())
        count = min(len(buffer), len(self._block))
        buffer[:count] = self._block[:count]
        self._block = self._block[count:]
        return count

    def finish(self) -> None:
        """Be done with the answer; a reader that still waits for some of it is left behind."""
        if self._is_plain:
            self._plain.finish()
        if self._expected:
            self._leave_reader()
        self._block, self._pieces = memoryview(b""), []

    def close(self) -> None:
        """Let everything go."""
        self._plain.close()
        self._leave_reader()
        self._block, self._pieces = memoryview(b""), []

    def _ask(self) -> None:
        """Have the reader fetch the next piece while this one is written down."""
        if self._reader is None:
            self._reader = _Reader(self._transport, self._stall_seconds)
            self._reader.start()
        if self._pieces:
            start, end = self._pieces.pop(0)
            self._expected = end - start
            self._reader.asked.put((self._hash, self._file.size_bytes, start, end))
        else:
            self._expected = 0

    def _next(self) -> bytes:
        assert self._reader is not None  # noqa: S101 - there is one while something is expected
        try:
            answer = self._reader.answers.get(timeout=_PATIENCE * self._stall_seconds)
        except queue.Empty:
            self._transport.forget_session()
            self.close()
            raise Transient(
                f"Xet brought nothing of {self._file.path} for {_PATIENCE * self._stall_seconds:g} s"
            ) from None
        if isinstance(answer, Exception):
            self.close()
            raise Transient(f"Xet did not bring {self._file.path}: {_words(answer)}") from None
        if len(answer) != self._expected:
            # Where the content store fails, the library may end a stream without an error.
            expected = self._expected
            self.close()
            raise Transient(
                f"Xet did not bring {self._file.path}: the answer ended after {len(answer)} of {expected} bytes"
            )
        self._ask()
        return answer

    def _leave_reader(self) -> None:
        if self._reader is not None:
            self._reader.asked.put(None)
        self._reader, self._expected = None, 0


class _Reader(threading.Thread):
    """Waits for the library, which cannot be interrupted: aborting a group does not end a read in the middle."""

    def __init__(self, transport: XetTransport, stall_seconds: float) -> None:
        super().__init__(daemon=True)
        self.asked: queue.SimpleQueue[tuple[str, int, int, int] | None] = queue.SimpleQueue()
        self.answers: queue.SimpleQueue[bytes | Exception] = queue.SimpleQueue()
        self._transport, self._stall_seconds = transport, stall_seconds

    def run(self) -> None:
        group: Any = None
        while (piece := self.asked.get()) is not None:
            try:
                group = group or self._transport.open_group(self._stall_seconds)
                self.answers.put(_fetched(group, *piece))
            except Exception as error:  # noqa: BLE001 - handed to the one who waits
                group = None
                self.answers.put(error)


def _fetched(group: Any, xet_hash: str, size_bytes: int, start: int, end: int) -> bytes:
    import hf_xet  # noqa: PLC0415 - only where it is needed

    return b"".join(group.download_stream(hf_xet.XetFileInfo(xet_hash, size_bytes), start=start, end=end))


def _words(error: Exception) -> str:
    """What happened, without the library's own text: it names addresses that are secrets."""
    known = {"XetAuthenticationError": "the hub or the content store refused the token"}
    known |= {"XetObjectNotFoundError": "the content store does not have it"}
    return known.get(type(error).__name__, f"the connection failed or stood still ({type(error).__name__})")
