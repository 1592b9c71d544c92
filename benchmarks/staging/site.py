"""A hub to stage from: nginx serves the bytes over HTTP and TLS, the devcluster's hub behind it the metadata.

It is laid out as a mirror of the hub is: one origin, large files at ``/lfs/<sha256>`` with their digest as ETag.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from devcluster import layout
from devcluster.hub.repository import load
from devcluster.hub.server import Hub

CAPPED_BYTES_PER_SECOND = 100 * 1024 * 1024
"""About what one connection to the public hub brings (87 MB/s, xet-core issue 898)."""
_CONFIGURATION = """\
daemon off; worker_processes 2; pid {folder}/nginx.pid; error_log {folder}/error.log; {user}
events {{ worker_connections 512; }}
http {{
  access_log off; sendfile on; tcp_nopush on; keepalive_requests 100000; client_body_temp_path {folder}/t1;
  proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3; uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
  ssl_certificate {folder}/certificate.pem; ssl_certificate_key {folder}/key.pem;
  server {{ listen 127.0.0.1:{http}; {places} }}
  server {{ listen 127.0.0.1:{tls} ssl; {places} }}
  server {{ listen 127.0.0.1:{capped}; limit_rate {rate}; {places} }}
}}
"""
_PLACES = """
    location ~ ^/lfs/([0-9a-f]+)$ {{
      alias {folder}/lfs/$1; etag off; add_header ETag '"$1"'; add_header X-Repo-Commit $arg_commit;
    }}
    location / {{ proxy_pass http://127.0.0.1:{hub}; proxy_set_header Host $http_host; proxy_http_version 1.1; }}
"""


@dataclass(frozen=True)
class Site:
    """Endpoints of the same repositories."""

    http: str
    tls: str
    capped: str
    certificate: Path
    repository: Path
    lfs: Path


@contextlib.contextmanager
def serve(models: Path, folder: Path) -> Iterator[Site]:
    """Serve ``models`` (``ORG/NAME/BRANCH/...``) until the end of the block; ``folder`` is for the servers' files."""
    program = _nginx()
    repositories = load(models)
    (folder / "lfs").mkdir(parents=True)
    for repository in repositories.values():
        for commit in repository.commits.values():
            for file in commit.files.values():
                if file.sha256:
                    (folder / "lfs" / file.sha256).symlink_to(file.source)
    _certify(folder)
    hub = Hub(("127.0.0.1", 0), repositories)
    threading.Thread(target=hub.serve_forever, daemon=True).start()
    http, tls, capped = _free_ports(3)
    places = _PLACES.format(folder=folder, hub=hub.server_port)
    (folder / "nginx.conf").write_text(
        _CONFIGURATION.format(
            folder=folder,
            http=http,
            tls=tls,
            capped=capped,
            rate=CAPPED_BYTES_PER_SECOND,
            places=places,
            user="user root;" if os.geteuid() == 0 else "",
        )
    )
    server = subprocess.Popen([program, "-p", folder, "-c", folder / "nginx.conf", "-e", folder / "error.log"])
    try:
        _await_port(http, server, folder)
        yield Site(
            f"http://127.0.0.1:{http}",
            f"https://localhost:{tls}",
            f"http://127.0.0.1:{capped}",
            folder / "certificate.pem",
            models,
            folder / "lfs",
        )
    finally:
        server.terminate()
        server.wait()
        hub.shutdown()
        hub.server_close()


def _nginx() -> str:
    """The web server: the machine's own, else Debian's package unpacked into the cache; nothing is installed."""
    if found := shutil.which("nginx"):
        return found
    folder = layout.cache() / "nginx"
    program = folder / "usr" / "sbin" / "nginx"
    if not program.exists():
        if not shutil.which("apt-get"):
            sys.exit("this benchmark needs nginx: install it (Debian: apt-get install nginx-light)")
        print("fetching Debian's nginx (it is unpacked into the cache, not installed)", flush=True)
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(["apt-get", "download", "-qq", "nginx"], cwd=folder, check=True, stderr=subprocess.DEVNULL)
        package = next(folder.glob("nginx_*.deb"))
        subprocess.run(["dpkg-deb", "-x", package, folder], check=True)
        package.unlink()
    return str(program)


def _certify(folder: Path) -> None:
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=DNS:localhost", "-keyout", "key.pem", "-out", "certificate.pem"]
    subprocess.run([*command.split(), *names], cwd=folder, check=True, capture_output=True)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _await_port(port: int, server: subprocess.Popen[bytes], folder: Path) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and server.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    log = folder / "error.log"
    sys.exit(f"nginx did not start: {log.read_text() if log.exists() else 'no reason given'}")
