"""A small model server whose answers, and whose ways to fail, a test chooses for each request."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def right(_number, prompt):
    left, other = prompt.rstrip("=").split("+")
    return str(int(left) + int(other))


def gauges(waiting=0, running=0, cache_usage=0.0):
    """The text of vLLM's gauges."""
    labels = '{engine="0",model_name="tiny"}'
    named = {"num_requests_waiting": waiting, "num_requests_running": running, "kv_cache_usage_perc": cache_usage}
    return "".join(f"vllm:{name}{labels} {float(value)}\n" for name, value in named.items())


IDLE = gauges()


class Slow(str):
    """A right answer whose first token takes ``ttft_seconds`` and each further one ``itl_seconds``."""

    __slots__ = ("itl_seconds", "ttft_seconds")

    def __new__(cls, text, ttft_seconds, itl_seconds=0.0):
        made = super().__new__(cls, text)
        made.ttft_seconds, made.itl_seconds = ttft_seconds, itl_seconds
        return made


class StubServer:
    """``behave(number, prompt)`` gives the text of an answer, or one of the ways to fail as ``Fault``s."""

    def __init__(self, behave=right, model="tiny", metrics=IDLE):
        self.behave, self.model = behave, model
        self.asked = Counter()
        self.bodies = []
        self.running = self.most_running = 0
        self.metrics = metrics
        """Text of ``/metrics``, or what makes it; none: a server without gauges."""
        self._lock = threading.Lock()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._http.daemon_threads = True
        self._http.stub = self
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def close(self):
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    def begin(self, body):
        with self._lock:
            self.bodies.append(body)
            self.asked[body.get("prompt") or body["messages"][-1]["content"]] += 1
            self.running += 1
            self.most_running = max(self.running, self.most_running)
            return len(self.bodies)

    def end(self):
        with self._lock:
            self.running -= 1


class Fault(str):
    """``500``, ``hang up``, ``cut``, ``no finish``, ``no end mark``, ``error event``, ``garbage`` or ``abort``."""

    __slots__ = ()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Headers and body leave in several writes; Nagle's algorithm would hold the later ones back for 40 ms.
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def do_GET(self):
        stub = self.server.stub
        if self.path != "/metrics":
            self._whole(200, {"data": [{"id": stub.model}]})
        elif stub.metrics is None:
            self._whole(404, {"detail": "Not Found"})
        else:
            self._send(200, (stub.metrics() if callable(stub.metrics) else stub.metrics).encode())

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        stub = self.server.stub
        number = stub.begin(body)
        prompt = body.get("prompt") or body["messages"][-1]["content"]
        try:
            # A client that gave up has closed the connection.
            with suppress(ConnectionError):
                self._say(stub.behave(number, prompt), chat="messages" in body)
        finally:
            stub.end()

    def _say(self, text, *, chat):
        if text == Fault("500"):
            self._whole(500, {"error": {"message": "boom"}})
            return
        if text == Fault("hang up"):
            self.close_connection = True
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        fault = text if isinstance(text, Fault) else ""
        for number, event in enumerate(_events("1" if fault else text, fault, chat=chat)):
            if isinstance(text, Slow) and number < len(text):
                time.sleep(text.itl_seconds if number else text.ttft_seconds)
            self._chunk(event)
        if fault == "cut":
            self.close_connection = True
        else:
            self._chunk("")

    def _chunk(self, text):
        data = text.encode()
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def _whole(self, status, value):
        self._send(status, json.dumps(value).encode())

    def _send(self, status, data):
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def _events(text, fault, *, chat):
    for letter in text:
        yield _event({"choices": [{"delta": {"content": letter}} if chat else {"text": letter}]})
    if fault == "cut":
        return
    if fault == "garbage":
        yield "data: {not json\n\n"
    if fault == "error event":
        yield _event({"error": {"message": "engine died"}})
    if fault != "no finish":
        yield _event({"choices": [{"text": "", "finish_reason": "abort" if fault == "abort" else "stop"}]})
    yield _event({"choices": [], "usage": {"prompt_tokens": 4, "completion_tokens": len(text) + 1}})
    if fault != "no end mark":
        yield "data: [DONE]\n\n"


def _event(value):
    return f"data: {json.dumps(value)}\n\n"
