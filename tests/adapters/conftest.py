"""A server that answers as it is told, for adapters that have to read it."""

from __future__ import annotations

import json
import socketserver
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from kubernetes import client

from llm_rollout import kinds
from llm_rollout.adapters.kube import KubeCluster

TOKEN = "sha256~SECRET-of-the-test"
"""What no text may ever show."""
LONGEST_SECONDS = 20


@dataclass
class Asked:
    """One request as it arrived."""

    method: str
    path: str
    headers: Message
    body: Any


@dataclass
class Stub:
    """What the server answers next, and what it was asked."""

    url: str = ""
    play: Callable[[Handler], None] = lambda _: None
    asked: list[Asked] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)
    """Set at the end of the test: until then a script may hold a connection open."""

    def answer(self, status: int, body: Any = None, content_type: str = "application/json") -> None:
        """The same answer from now on; ``body`` is text, or a value for JSON."""
        text = body if isinstance(body, str) else json.dumps(body)
        self.play = lambda handler: handler.reply(status, text.encode(), content_type)

    def hold(self, _: Handler) -> None:
        """Say nothing more on this connection."""
        self.over.wait(LONGEST_SECONDS)


class Handler(BaseHTTPRequestHandler):
    """One connection to the stub."""

    protocol_version = "HTTP/1.1"
    stub: Stub

    def handle_one_request(self) -> None:
        """As the base class; a client that has gone away is no failure of the test."""
        try:
            super().handle_one_request()
        except (ConnectionError, TimeoutError):
            self.close_connection = True

    def _play(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        value = json.loads(body) if body else None
        self.stub.asked.append(Asked(self.command, self.path, self.headers, value))
        self.stub.play(self)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _play  # noqa: N815 - the names that the base class calls

    def reply(self, status: int, body: bytes, content_type: str) -> None:
        """A whole answer."""
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def begin_stream(self) -> None:
        """The head of an event stream that has no announced end."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def chunk(self, text: str) -> None:
        """A part of a stream; an empty one ends it."""
        data = text.encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def cut(self) -> None:
        """Close the connection here."""
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name in the base class
        """Stay silent."""


class Server(ThreadingHTTPServer):
    """A connection may outlive its test by the moment that its script needs to see the end."""

    daemon_threads = True

    def server_bind(self) -> None:
        """Bind without the reverse look-up of http.server, which hangs where no name server answers."""
        socketserver.TCPServer.server_bind(self)


@pytest.fixture
def stub() -> Iterator[Stub]:
    found = Stub()
    server = Server(("127.0.0.1", 0), type("StubHandler", (Handler,), {"stub": found}))
    found.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield found
    found.over.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def token() -> str:
    return TOKEN


@pytest.fixture
def configuration(stub, token) -> client.Configuration:
    """The stub as the API server, with a bearer token."""
    found = client.Configuration(host=stub.url)
    found.api_key = {"authorization": f"Bearer {token}"}
    return found


@pytest.fixture
def api_client(configuration) -> Iterator[client.ApiClient]:
    with client.ApiClient(configuration) as found:
        yield found


@pytest.fixture
def api(cluster):
    with cluster.api() as found:
        yield found


@pytest.fixture
def kube(api):
    return KubeCluster(api)


@pytest.fixture
def core(api):
    return client.CoreV1Api(api)


@pytest.fixture
def name(kube):
    """A name of the test's own; whatever carries it is gone afterwards."""
    found = f"adapters-{uuid.uuid4().hex[:8]}"
    yield found
    for kind in (kinds.CONFIG_MAP, kinds.LEASE, kinds.POD):
        for one in kube.list(kind, "default"):
            if found in one["metadata"]["name"]:
                kube.delete(kind, "default", one["metadata"]["name"], one["metadata"]["uid"])
