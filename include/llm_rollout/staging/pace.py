"""Pure: how many connections a transfer uses. It doubles them while that pays, and tries again now and then."""

from __future__ import annotations

from dataclasses import dataclass

FIRST_CONNECTIONS = 4
"""Enough for a fast line. Slow connections (90 MB/s to the public hub, xet-core issue 898) show within a second."""
MEASURE_SECONDS = 0.25
TRY_AGAIN_SECONDS = 10.0
"""A line or a server that was at its limit may have room later."""
_PAYS = 1.25
"""Twice as many connections bring twice as much, or something else is the limit; a quarter more is beyond noise."""
_HARMS = 1.05
"""Without even a twentieth more, the additional connections only cost."""


@dataclass
class Pace:
    """Told how much has arrived, it says how many connections to use."""

    limit: int
    connections: int
    _since: float
    _bytes_then: int = 0
    _refused_then: int = 0
    _before: tuple[int, float] = (0, 0.0)
    """Connections and bytes a second before the last doubling."""
    _settled: bool = False

    @classmethod
    def begin(cls, limit: int, now: float) -> Pace:
        """With a few, at most ``limit``; ``now`` in seconds."""
        return cls(limit, min(limit, FIRST_CONNECTIONS), now)

    def look(self, fetched_bytes: int, refused: int, now: float) -> int:
        """How many connections to use from now on.

        ``fetched_bytes`` and ``refused`` (requests that the server turned away for a while) count from the beginning.
        """
        if refused > self._refused_then:
            self.connections, self._settled = max(1, self.connections // 2), True
            self._start_over(fetched_bytes, refused, now)
        passed = now - self._since
        if passed < (TRY_AGAIN_SECONDS if self._settled else MEASURE_SECONDS):
            return self.connections
        rate = (fetched_bytes - self._bytes_then) / passed
        fewer, rate_before = self._before
        if self._settled or rate >= rate_before * _PAYS:
            self._before = self.connections, rate
            self.connections = min(self.limit, 2 * self.connections)
            self._settled = False
        else:
            self.connections = fewer if rate < rate_before * _HARMS else self.connections
            self._settled = True
        self._start_over(fetched_bytes, refused, now)
        return self.connections

    def _start_over(self, fetched_bytes: int, refused: int, now: float) -> None:
        self._bytes_then, self._refused_then, self._since = fetched_bytes, refused, now
