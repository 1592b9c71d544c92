"""How far staging is, how fast it goes, and when it will be done."""

from __future__ import annotations

import threading
import time
from typing import Any

_SMOOTHING = 0.3
"""Weight of the newest rate: the estimate of the end follows a change within a few reports and does not jump."""


class Meter:
    """Counts bytes. Safe to use from many threads."""

    def __init__(self, total_bytes: int, reused_bytes: int) -> None:
        """``total_bytes`` belong to the commit, ``reused_bytes`` of them are on the store already."""
        self.total_bytes = total_bytes
        self.reused_bytes = reused_bytes
        self.fetched_bytes = 0
        self.failures = 0
        self._arrived_bytes = reused_bytes
        self._lock = threading.Lock()
        self._moved = time.monotonic()
        self._rate: float | None = None
        self._reported = (time.monotonic(), reused_bytes)

    def received(self, fetched_bytes: int, new_bytes: int) -> None:
        """So much came over the network, and so much of it was not there before."""
        with self._lock:
            self.fetched_bytes += fetched_bytes
            self._arrived_bytes += new_bytes
            if new_bytes:
                self._moved = time.monotonic()

    def dropped(self, arrived_bytes: int) -> None:
        """So much of what had arrived was wrong."""
        with self._lock:
            self._arrived_bytes -= arrived_bytes

    def standstill_seconds(self) -> float:
        """How long nothing new has come."""
        with self._lock:
            return time.monotonic() - self._moved

    def be_patient_again(self) -> None:
        """Another way is tried now: count the standstill anew."""
        with self._lock:
            self._moved = time.monotonic()

    def reading(self) -> dict[str, Any]:
        """The numbers of a progress line."""
        with self._lock:
            now, (then, before) = time.monotonic(), self._reported
            newest = (self._arrived_bytes - before) / max(now - then, 1e-3)
            self._rate = newest if self._rate is None else self._rate + _SMOOTHING * (newest - self._rate)
            self._reported = (now, self._arrived_bytes)
            left = self.total_bytes - self._arrived_bytes
            return {
                "bytes_done": self._arrived_bytes,
                "bytes_total": self.total_bytes,
                "bytes_per_second": max(0, round(self._rate)),
                "eta_seconds": round(left / self._rate, 1) if self._rate > 0 else None,
            }
