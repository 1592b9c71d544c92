"""A stand-in for Google Cloud Storage: GET of an object or of a part of it, at ``/BUCKET/OBJECT``."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote


@contextmanager
def serving(buckets: Path) -> Iterator[str]:
    """Serve ``buckets``; yields a service account's key that leads there and asks for no token."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(buckets))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    nobody = {"client_email": "", "private_key": "", "private_key_id": ""}
    try:
        yield json.dumps({"gcs_base_url": address, "disable_oauth": True, **nobody})
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(buckets: Path) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = buckets / unquote(self.path).lstrip("/")
            if not path.is_file():
                self.send_error(404)
                return
            content, asked = path.read_bytes(), self.headers.get("Range")
            first, last = asked.removeprefix("bytes=").split("-") if asked else (0, len(content) - 1)
            part = content[int(first) : int(last) + 1]
            self.send_response(206 if asked else 200)
            self.send_header("Content-Length", str(len(part)))
            self.send_header("Last-Modified", "Wed, 25 Nov 2026 10:00:00 GMT")
            self.send_header("ETag", '"any"')
            if asked:
                self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
            self.end_headers()
            self.wfile.write(part)

        def log_message(self, *_: object) -> None:
            pass

    return Handler
