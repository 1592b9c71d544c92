"""Build the S3 gateway once for its pinned version, and run it over a directory whose folders are the buckets."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from devcluster import toolchain
from devcluster.layout import cache

PACKAGE = "github.com/versity/versitygw/cmd/versitygw"
ACCESS_KEY, SECRET_KEY = "gateway", "the-secret-key-that-nobody-sees"
_SOURCE = Path(__file__).resolve().parent
_START_SECONDS = 30.0


@dataclass(frozen=True)
class Gateway:
    """A running S3 server. It checks signatures; ``buckets`` may change while it runs."""

    port: int
    buckets: Path
    process: subprocess.Popen[bytes]


def program() -> Path:
    """The gateway's program; built when it is missing, which takes about a minute.

    Raises:
        devcluster.toolchain.NoCompilerError: There is no Go and none can be installed.
        subprocess.CalledProcessError: It could not be built.
    """
    pins = b"".join((_SOURCE / name).read_bytes() for name in ("go.mod", "go.sum"))
    place = cache() / "objects" / hashlib.sha256(pins).hexdigest()[:16] / "versitygw"
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place.parent) as scratch:
            built = Path(scratch) / place.name
            command = [toolchain.go(), "build", "-ldflags", "-s -w", "-o", str(built), PACKAGE]
            subprocess.run(command, cwd=_SOURCE, env={**os.environ, "CGO_ENABLED": "0"}, check=True)
            built.replace(place)
    return place


@contextmanager
def running(buckets: Path) -> Iterator[Gateway]:
    """A gateway for the length of the block; it also ends when this process does, however that ends."""
    port = _free_port()
    keys = ["--access", ACCESS_KEY, "--secret", SECRET_KEY]
    listen = ["--port", f"127.0.0.1:{port}", "--quiet"]
    command = [
        "setpriv",
        "--pdeathsig",
        "KILL",
        "--",
        str(program()),
        *listen,
        *keys,
        "posix",
        "--nometa",
        str(buckets),
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            _await(port, process)
            yield Gateway(port, buckets, process)
        finally:
            process.kill()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _await(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise RuntimeError(f"the S3 gateway does not listen on port {port}")
