"""Messages between the ranks of a group: a JSON header and raw bytes over one TCP connection."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
from typing import Any

_SIZES = struct.Struct("!II")
_KEEPALIVE_IDLE_SECONDS = 5
_KEEPALIVE_INTERVAL_SECONDS = 2
_KEEPALIVE_PROBES = 3
"""A peer whose node vanished without a word is noticed after 5 + 3 * 2 seconds."""


class Channel:
    """One connection. Sending is safe from several threads; one thread receives."""

    def __init__(self, connection: socket.socket) -> None:
        """Take over ``connection``."""
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEPALIVE_IDLE_SECONDS)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _KEEPALIVE_INTERVAL_SECONDS)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _KEEPALIVE_PROBES)
        self._connection = connection
        self._lock = threading.Lock()

        self.address: tuple[str, int] = connection.getpeername()[:2]
        """The other side's host and port, also after it is gone."""

    def send(self, header: Any, payload: bytes = b"") -> None:
        """Send one message.

        Raises:
            OSError: The connection is gone.
        """
        text = json.dumps(header, separators=(",", ":")).encode()
        with self._lock:
            self._connection.sendall(_SIZES.pack(len(text), len(payload)) + text + payload)

    def receive(self, timeout_seconds: float | None = None) -> tuple[Any, bytes]:
        """Return the next message's header and payload.

        Raises:
            OSError: The connection is gone (ConnectionError) or silent for ``timeout_seconds`` (TimeoutError).
            ValueError: The other side speaks something else.
        """
        self._connection.settimeout(timeout_seconds)
        header_size, payload_size = _SIZES.unpack(self._read(_SIZES.size))
        return json.loads(self._read(header_size)), self._read(payload_size)

    def close(self) -> None:
        """End the connection; a thread that waits in ``receive`` gets a ConnectionError."""
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._connection.close()

    def _read(self, size: int) -> bytes:
        parts = bytearray()
        while len(parts) < size:
            part = self._connection.recv(min(size - len(parts), 1 << 20))
            if not part:
                raise ConnectionError("the other side closed the connection")
            parts += part
        return bytes(parts)
