"""Lines of JSON over TCP between the coordinator and the members."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator, Mapping
from typing import Any

_LONGEST_LINE_BYTES = 1024 * 1024
"""A member's answer is a few KiB; a peer that sends more does not speak this protocol."""


class Wire:
    """One connection. ``send`` may be called from many threads, ``messages`` from one."""

    def __init__(self, connection: socket.socket) -> None:
        """Take over ``connection``; its timeout bounds every wait of ``messages``."""
        self._connection = connection
        self._reader = connection.makefile("rb")
        self._lock = threading.Lock()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, message: Mapping[str, Any]) -> None:
        """Send one message; OSError when the other end is gone."""
        line = json.dumps(message).encode() + b"\n"
        with self._lock:
            self._connection.sendall(line)

    def receive(self) -> dict[str, Any] | None:
        """The next message, None when the other end is gone, says nothing in time or makes no sense."""
        try:
            line = self._reader.readline(_LONGEST_LINE_BYTES)
            message = json.loads(line) if line.endswith(b"\n") else None
        except (OSError, ValueError):
            return None
        return message if isinstance(message, dict) else None

    def messages(self) -> Iterator[dict[str, Any]]:
        """Messages until the other end is gone."""
        while (message := self.receive()) is not None:
            yield message

    def set_timeout(self, seconds: float | None) -> None:
        """How long ``receive`` waits; None is for ever."""
        self._connection.settimeout(seconds)

    def close(self) -> None:
        """End the connection; a reader in another thread wakes up."""
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._reader.close()
        self._connection.close()
