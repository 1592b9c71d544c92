"""What the hub was asked for, so that a test can prove that nothing was fetched twice."""

from __future__ import annotations

import json
import sys
import threading
from collections import Counter
from typing import Any


class Journal:
    """Counts requests and the body bytes sent, by method and path. Safe to use from many threads."""

    def __init__(self, *, echo: bool) -> None:
        """``echo`` prints each request to stdout as a line of JSON."""
        self._echo = echo
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._bytes: Counter[str] = Counter()

    def note(self, method: str, path: str, *, status: int, sent_bytes: int, range_header: str | None) -> None:
        """Record one answered request."""
        with self._lock:
            self._counts[f"{method} {path}"] += 1
            self._bytes[f"{method} {path}"] += sent_bytes
            if self._echo:
                line = {"method": method, "path": path, "status": status, "bytes": sent_bytes, "range": range_header}
                sys.stdout.write(json.dumps(line) + "\n")
                sys.stdout.flush()

    def clear(self) -> None:
        """Start counting anew."""
        with self._lock:
            self._counts.clear()
            self._bytes.clear()

    def summary(self) -> dict[str, Any]:
        """``total``, and by ``METHOD PATH`` the ``counts`` and the body ``bytes`` sent."""
        with self._lock:
            return {"total": self._counts.total(), "counts": dict(self._counts), "bytes": dict(self._bytes)}
