"""Pure: how many connections a transfer uses, found by trying more as long as more bring more."""

from __future__ import annotations

import math
from dataclasses import dataclass

FIRST_CONNECTIONS = 16
"""A connection to the public hub brings about 90 MB/s (xet-core issue 898): sixteen fill 10 Gbit/s."""
_GROWTH = 1.5
_WORTH_IT = 1.05
"""More connections stay a good idea while they bring a twentieth more."""
_MEASURE_SECONDS = 2.0
"""Long enough for new connections to get up to speed."""
_TRY_AGAIN_SECONDS = 60.0
"""A network that was full may have room later."""


@dataclass
class Pace:
    """Told how much has arrived, it says how many connections to use; never fewer than before."""

    limit: int
    connections: int
    _began: float
    _bytes_then: int = 0
    _rate_before: float = 0.0
    _full: bool = False

    @classmethod
    def begin(cls, limit: int, now: float) -> Pace:
        """With as many as are usual, at most ``limit``; ``now`` in seconds."""
        return cls(limit, min(limit, FIRST_CONNECTIONS), now)

    def look(self, fetched_bytes: int, refused: int, now: float) -> int:
        """How many connections to use from now on.

        ``fetched_bytes`` and ``refused`` (requests that the server turned away for a while) count from the beginning.
        """
        passed = now - self._began
        if refused or passed < (_TRY_AGAIN_SECONDS if self._full else _MEASURE_SECONDS):
            return self.connections
        rate = (fetched_bytes - self._bytes_then) / passed
        self._full = not self._full and rate < self._rate_before * _WORTH_IT
        if not self._full:
            self.connections = min(self.limit, math.ceil(self.connections * _GROWTH))
        self._began, self._bytes_then, self._rate_before = now, fetched_bytes, rate
        return self.connections
