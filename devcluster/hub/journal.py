"""What the hub was asked for, so that a test can prove that nothing was fetched twice."""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

Part = tuple[int, int]
_LOOK_SECONDS = 0.005


class Journal:
    """Counts requests and the body bytes sent, by method and path. Safe to use from many threads."""

    def __init__(self, *, echo: bool) -> None:
        """``echo`` prints each request to stdout as a line of JSON."""
        self._echo = echo
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._bytes: Counter[str] = Counter()
        self._parts: defaultdict[str, list[Part]] = defaultdict(list)
        self._open = 0

    @contextlib.contextmanager
    def answering(self) -> Iterator[None]:
        """A request is being answered for the length of the block."""
        with self._lock:
            self._open += 1
        try:
            yield
        finally:
            with self._lock:
                self._open -= 1

    def sent(self, method: str, path: str, part: Part) -> None:
        """Count bytes of a file as they leave: they count also when their reader is killed meanwhile."""
        with self._lock:
            self._bytes[f"{method} {path}"] += part[1] - part[0]
            self._parts[path].append(part)

    def replied(self, method: str, path: str, body_bytes: int) -> None:
        """Count the body of a reply that is no file."""
        with self._lock:
            self._bytes[f"{method} {path}"] += body_bytes

    def note(self, method: str, path: str, *, status: int, sent_bytes: int, range_header: str | None) -> None:
        """Record one answered request, whose body has been counted."""
        with self._lock:
            self._counts[f"{method} {path}"] += 1
            if self._echo:
                line = {"method": method, "path": path, "status": status, "bytes": sent_bytes, "range": range_header}
                sys.stdout.write(json.dumps(line) + "\n")
                sys.stdout.flush()

    def clear(self) -> None:
        """Start counting anew."""
        with self._lock:
            self._counts.clear()
            self._bytes.clear()
            self._parts.clear()

    def settle(self, within_seconds: float) -> bool:
        """Wait until no request is being answered: the counts are complete then. False when that took too long."""
        deadline = time.monotonic() + within_seconds
        while time.monotonic() < deadline:
            with self._lock:
                if not self._open:
                    return True
            time.sleep(_LOOK_SECONDS)
        return False

    def parts(self) -> dict[str, list[Part]]:
        """By path, which bytes of the file have been sent, in order of sending."""
        with self._lock:
            return {path: list(parts) for path, parts in self._parts.items()}

    def summary(self) -> dict[str, Any]:
        """``total``, and by ``METHOD PATH`` the ``counts`` and the body ``bytes`` sent."""
        with self._lock:
            return {"total": self._counts.total(), "counts": dict(self._counts), "bytes": dict(self._bytes)}
