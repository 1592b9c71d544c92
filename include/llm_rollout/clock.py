"""Times as Kubernetes writes them, and as seconds since the epoch."""

from __future__ import annotations

from datetime import UTC, datetime


def seconds(text: str | None) -> float | None:
    """Seconds since the epoch of an RFC 3339 time, None for no time."""
    return datetime.fromisoformat(text).timestamp() if text else None


def rfc3339(moment: float) -> str:
    """The time with microseconds, as a Lease's MicroTime wants it."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
