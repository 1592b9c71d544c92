"""Addresses that hold for a while: the original sends large files from another origin, which knows no tokens."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import time
from collections import Counter
from collections.abc import Mapping


class SignedAddresses:
    """Issues addresses and checks them. Safe to use from many threads."""

    def __init__(self) -> None:
        """With a key of its own: an address of another run is refused."""
        self._key = secrets.token_bytes(16)
        self._left: Counter[str] = Counter()
        self._lock = threading.Lock()

    def issue(self, sha256: str, seconds: float, uses: int | None) -> str:
        """Path and query for a file, good for ``seconds`` and, where given, for so many requests."""
        serial, until = secrets.token_hex(8), f"{time.time() + seconds:.3f}"
        if uses is not None:
            with self._lock:
                self._left[serial] = uses
        limited = int(uses is not None)
        signature = self._signature(sha256, until, f"{serial}-{limited}")
        return f"/signed/{sha256}?Expires={until}&Serial={serial}-{limited}&Signature={signature}"

    def refusal(self, sha256: str, query: Mapping[str, str]) -> str | None:
        """Why the address is not good, None where it is; spends one use."""
        until, serial = query.get("Expires", ""), query.get("Serial", "")
        if not hmac.compare_digest(self._signature(sha256, until, serial), query.get("Signature", "")):
            return "SignatureDoesNotMatch"
        if float(until) < time.time():
            return "Request has expired"
        number, _, limited = serial.partition("-")
        if limited == "1":
            with self._lock:
                if self._left[number] <= 0:
                    return "Request has expired"
                self._left[number] -= 1
        return None

    def _signature(self, *parts: str) -> str:
        return hmac.new(self._key, "\n".join(parts).encode(), hashlib.sha256).hexdigest()
