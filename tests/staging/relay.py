"""A connection to a server that can be cut off, or made to stand still."""

from __future__ import annotations

import contextlib
import socket
import threading


class Relay:
    """Forwards to a server; once ``after`` bytes of answers have passed it is cut off, or stands still."""

    def __init__(self, port):
        self._to, self._left, self.stands_still = port, None, False
        self._open, self._lock = [], threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def fail(self, after, *, stands_still=False):
        self._left, self.stands_still = after, stands_still

    def mend(self):
        self._left, self.stands_still = None, False

    def end(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        self._drop()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                near, far = self._listener.accept()[0], socket.create_connection(("127.0.0.1", self._to))
                self._open += [near, far]
                threading.Thread(target=self._copy, args=(near, far, False), daemon=True).start()
                threading.Thread(target=self._copy, args=(far, near, True), daemon=True).start()

    def _copy(self, reader, writer, counted):
        with contextlib.suppress(OSError):
            while block := reader.recv(16_384):
                if not counted or self._passes(len(block)):
                    writer.sendall(block)
            if not self.stands_still:
                writer.shutdown(socket.SHUT_WR)

    def _passes(self, count):
        with self._lock:
            if self._left is None:
                return True
            self._left -= count
            if self._left >= 0:
                return True
        if not self.stands_still:
            self._drop()
        return False

    def _drop(self):
        while self._open:
            one = self._open.pop()
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
