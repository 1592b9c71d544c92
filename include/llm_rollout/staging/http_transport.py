"""Read byte ranges of a repository's files from a hub over HTTP.

Plain ``http.client`` with ``readinto``: a third of the CPU of the hub's own client for each byte. The token goes to
the hub's own origin, never to the host that a redirect names. Addresses are never shown: signed ones are secrets.
"""

from __future__ import annotations

import http.client
import re
import socket
import ssl
import threading
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from llm_rollout import __version__
from llm_rollout.errors import Permanent, Transient
from llm_rollout.staging.listing import File
from llm_rollout.staging.transport import RangeIgnored, Refused

_MOST_REDIRECTS = 5
_REDIRECTS = {301, 302, 303, 307, 308}
_RETRIED = {408, 409, 425, 429}
_DRAINED_BYTES = 64 * 1024
"""A short rest of an answer is read, so that its connection can be used again."""
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


@dataclass(frozen=True)
class Repository:
    """Where the files are: an endpoint that speaks the Hugging Face protocol, a repository, a commit."""

    endpoint: str
    repo: str
    commit: str
    token: str | None = None

    def __repr__(self) -> str:
        """Without the token."""
        return f"Repository({self.repo!r} at {self.commit!r})"

    def address(self, path: str) -> str:
        """The hub's own address of a file."""
        return f"{self.endpoint.rstrip('/')}/{self.repo}/resolve/{self.commit}/{quote(path)}"


class HttpTransport:
    """``transport.Transport`` over plain HTTP.

    All connections share the addresses that the hub redirected to; they expire and are then asked for anew.
    """

    name = "HTTP"

    def __init__(self, repository: Repository) -> None:
        """Know only the hub's own addresses."""
        self.repository = repository
        self._known: dict[str, str] = {}
        self._lock = threading.Lock()

    def connect(self, stall_seconds: float) -> HttpConnection:
        """See ``transport.Transport``."""
        return HttpConnection(self, stall_seconds)

    def distrust(self, file: File) -> None:
        """Ask the hub again."""
        with self._lock:
            self._known.pop(file.path, None)

    def address(self, file: File) -> str:
        """Where to read the file."""
        with self._lock:
            return self._known.get(file.path) or self.repository.address(file.path)

    def learn(self, file: File, address: str) -> None:
        """Go there directly from now on."""
        with self._lock:
            self._known[file.path] = address

    def headers(self, address: str) -> dict[str, str]:
        """The token for the hub, nothing for anybody else."""
        token = self.repository.token
        return {"Authorization": f"Bearer {token}"} if token and self.is_hub(address) else {}

    def is_hub(self, address: str) -> bool:
        """Whether scheme, host and port are the hub's."""
        return _origin(urlsplit(address)) == _origin(urlsplit(self.repository.endpoint))


class HttpConnection:
    """One worker's connections, one an origin, kept open. Not safe to share between threads."""

    def __init__(self, transport: HttpTransport, stall_seconds: float) -> None:
        """Open nothing yet."""
        self._transport = transport
        self._stall_seconds = stall_seconds
        self._open: dict[tuple[str, str, int], http.client.HTTPConnection] = {}
        self._answer: http.client.HTTPResponse | None = None
        self._origin: tuple[str, str, int] | None = None

    def request(self, file: File, start: int, end: int) -> None:
        """Ask for ``file[start:end]``; ``read`` then brings it.

        Raises:
            Permanent: The hub says that this file cannot be had.
            RangeIgnored: It sends the whole file although ``start`` is not 0.
            Transient: Anything that may be different next time.
        """
        answer = self._follow(file, {"Range": f"bytes={start}-{end - 1}", "Accept-Encoding": "identity"})
        try:
            _refuse_other_range(answer, file, start, end)
        except Transient:
            self.close()
            raise
        self._answer = answer

    def read(self, buffer: memoryview) -> int:
        """Fill ``buffer`` as far as one read does; 0 at the end of the answer. Raises Transient on a broken one."""
        if self._answer is None:
            return 0
        try:
            return self._answer.readinto(buffer)
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.close()
            raise Transient(f"{self._host()} broke off: {_words(error, self._stall_seconds)}") from None

    def finish(self) -> None:
        """Be done with the answer; its connection serves the next request where nothing is left in it."""
        if self._answer is not None and not self._answer.isclosed():
            self.close()
        self._answer = None

    def close(self) -> None:
        """Close every connection."""
        for connection in self._open.values():
            connection.close()
        self._open.clear()
        self._answer = None

    def _follow(self, file: File, headers: Mapping[str, str]) -> http.client.HTTPResponse:
        address = self._transport.address(file)
        for _ in range(_MOST_REDIRECTS):
            answer = self._get(address, headers)
            location = answer.getheader("Location")
            if answer.status not in _REDIRECTS or not location:
                self._refuse_error(answer, file, address)
                if address != self._transport.repository.address(file.path):
                    self._transport.learn(file, address)
                return answer
            self._drain(answer)
            address = self._next(address, location)
        raise Transient(f"{file.path}: more than {_MOST_REDIRECTS} redirects")

    def _next(self, address: str, location: str) -> str:
        try:
            following = urljoin(address, location)
            scheme = _origin(urlsplit(following))[0]
        except ValueError:
            raise Transient("the hub redirects to something that is no address") from None
        if scheme not in {"http", "https"} or (scheme == "http" and urlsplit(address).scheme == "https"):
            raise Permanent(f"the hub redirects from {urlsplit(address).scheme} to {scheme}: that is not followed")
        return following

    def _get(self, address: str, headers: Mapping[str, str]) -> http.client.HTTPResponse:
        url = urlsplit(address)
        self._origin = _origin(url)
        reused = self._origin in self._open
        try:
            return self._send(url, {**headers, **self._transport.headers(address)})
        except (OSError, http.client.HTTPException) as error:
            self.close()
            if reused:
                # The server had closed a connection that stood idle: that says nothing about the next one.
                return self._get(address, headers)
            raise Transient(f"{self._host()} did not answer: {_words(error, self._stall_seconds)}") from None

    def _send(self, url: SplitResult, headers: Mapping[str, str]) -> http.client.HTTPResponse:
        connection = self._open.get(_origin(url))
        if connection is None:
            connection = self._open[_origin(url)] = _connect(url, self._stall_seconds)
        target = url.path + (f"?{url.query}" if url.query else "")
        if _proxy(url) and url.scheme == "http":
            target = url.geturl()
        connection.request("GET", target or "/", headers={"User-Agent": f"llm-rollout/{__version__}", **headers})
        return connection.getresponse()

    def _drain(self, answer: http.client.HTTPResponse) -> None:
        try:
            answer.read(_DRAINED_BYTES)
        except (OSError, http.client.HTTPException):
            self.close()
            return
        if not answer.isclosed():
            self.close()

    def _refuse_error(self, answer: http.client.HTTPResponse, file: File, address: str) -> None:
        if answer.status in {200, 206}:
            return
        self._drain(answer)
        said = f"{self._host()} answered {answer.status} for {file.path}"
        if answer.status in _RETRIED or answer.status >= 500:  # noqa: PLR2004 - server errors
            raise Refused(said, _retry_after(answer.getheader("Retry-After")))
        redirected = address != self._transport.repository.address(file.path)
        if redirected or answer.status == 416:  # noqa: PLR2004 - range not satisfiable
            self._transport.distrust(file)
            raise Transient(f"{said} (an address that the hub gave; it is asked for a new one)")
        remedy = _REMEDIES.get(answer.status, "check model.endpoint")
        raise Permanent(f"{said} of {self._transport.repository.repo}: {remedy}")

    def _host(self) -> str:
        return self._origin[1] if self._origin else "the hub"


_REMEDIES = {
    401: "set HF_TOKEN (model.token_secret) to a token that may read it",
    403: "accept the repository's terms, and set HF_TOKEN (model.token_secret) to a token that may read it",
    404: "the commit or the file is gone; name another revision",
    410: "the commit or the file is gone; name another revision",
}


def _refuse_other_range(answer: http.client.HTTPResponse, file: File, start: int, end: int) -> None:
    if answer.status == 200:  # noqa: PLR2004 - the whole file
        if start:
            raise RangeIgnored(f"{file.path}: the server sends the whole file instead of a part")
        length = answer.getheader("Content-Length")
        if length is not None and length != str(file.size_bytes):
            raise Transient(f"{file.path}: the server announces another length than {file.size_bytes} bytes")
        return
    said = answer.getheader("Content-Range") or ""
    match = _CONTENT_RANGE.fullmatch(said)
    if match is None or tuple(map(int, match.groups())) != (start, end - 1, file.size_bytes):
        # What the server wrote is not repeated: it may be anything, a token for example.
        raise Transient(f"{file.path}: the server sends another Content-Range than bytes {start}-{end - 1}")


def _connect(url: SplitResult, timeout_seconds: float) -> http.client.HTTPConnection:
    proxy = _proxy(url)
    place = urlsplit(proxy) if proxy else url
    host = place.hostname or ""
    if url.scheme == "http":
        return http.client.HTTPConnection(host, place.port, timeout=timeout_seconds)
    context = ssl.create_default_context()
    connection = http.client.HTTPSConnection(host, place.port, timeout=timeout_seconds, context=context)
    if proxy:
        connection.set_tunnel(url.hostname or "", url.port)
    return connection


def _proxy(url: SplitResult) -> str | None:
    if urllib.request.proxy_bypass(url.hostname or ""):
        return None
    proxy = urllib.request.getproxies().get(url.scheme)
    return proxy if not proxy or "://" in proxy else f"http://{proxy}"


def _origin(url: SplitResult) -> tuple[str, str, int]:
    return url.scheme, url.hostname or "", url.port or (443 if url.scheme == "https" else 80)


def _retry_after(value: str | None) -> float | None:
    if value is None:
        return None
    if value.strip().isdigit():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None


def _words(error: Exception, stall_seconds: float) -> str:
    if isinstance(error, socket.timeout):
        return f"no byte for {stall_seconds:g} s"
    return type(error).__name__ + (f" ({error.strerror})" if isinstance(error, OSError) and error.strerror else "")
