"""Startup, readiness and liveness probes of one running container."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

Object = Mapping[str, Any]
Exec = Callable[[list[str], float], Awaitable[tuple[bool, str]]]
_HTTP_OK = range(200, 400)


class Prober:
    """Runs one probe until cancelled and reports each change of its verdict."""

    def __init__(self, container: Object, address: str, run_inside: Exec) -> None:
        self._container = container
        self._address = address
        self._run_inside = run_inside

    async def passes(self, probe: Object) -> tuple[bool, str]:
        """One try: whether it passed, else what happened."""
        seconds = float(probe.get("timeoutSeconds") or 1)
        try:
            if action := probe.get("exec"):
                # It keeps the time itself, for it has a process to end.
                return await self._run_inside(action["command"], seconds)
            async with asyncio.timeout(seconds):
                return await self._try(probe)
        except TimeoutError:
            return (
                False,
                f"{self._asked(probe)}context deadline exceeded (Client.Timeout exceeded while awaiting headers)",
            )
        except OSError as error:
            # asyncio words it differently from the system.
            reason = (os.strerror(error.errno) if error.errno else str(error)).lower()
            return False, f"{self._asked(probe)}dial tcp {self._target(probe)}: connect: {reason}"
        except (LookupError, ValueError) as error:
            return False, f"this probe cannot be done: {type(error).__name__}: {error}"

    async def until_changed(self, probe: Object, *, passing: bool) -> str:
        """Return when the probe has failed (or, if not ``passing``, passed) as often in a row as its threshold says."""
        wanted = int(probe.get("failureThreshold") or 3) if passing else int(probe.get("successThreshold") or 1)
        in_a_row = 0
        while True:
            passed, message = await self.passes(probe)
            in_a_row = in_a_row + 1 if passed is not passing else 0
            if in_a_row >= wanted:
                return message
            await asyncio.sleep(float(probe.get("periodSeconds") or 10))

    async def startup(self, probe: Object, failed: Callable[[str], None]) -> str | None:
        """None when it has passed, the last message when its patience is over; ``failed`` hears of the first failure.

        A kubelet tells each failure, but its event recorder makes one event of them.
        """
        tries_left = threshold = int(probe.get("failureThreshold") or 3)
        while True:
            passed, message = await self.passes(probe)
            if passed:
                return None
            if tries_left == threshold:
                failed(message)
            tries_left -= 1
            if not tries_left:
                return message
            await asyncio.sleep(float(probe.get("periodSeconds") or 10))

    async def _try(self, probe: Object) -> tuple[bool, str]:
        if action := probe.get("httpGet"):
            return await self._http(action)
        _, writer = await asyncio.open_connection(self._address, self._port(probe["tcpSocket"]["port"]))
        writer.close()
        return True, ""

    def _asked(self, probe: Object) -> str:
        action = probe.get("httpGet")
        return f'Get "http://{self._target(probe)}{action.get("path") or "/"}": ' if action else ""

    def _target(self, probe: Object) -> str:
        action = probe.get("httpGet") or probe["tcpSocket"]
        return f"{action.get('host') or self._address}:{self._port(action['port'])}"

    async def _http(self, action: Object) -> tuple[bool, str]:
        port = self._port(action["port"])
        reader, writer = await asyncio.open_connection(action.get("host") or self._address, port)
        try:
            path = action.get("path") or "/"
            request = f"GET {path} HTTP/1.1\r\nHost: {self._address}:{port}\r\nUser-Agent: kube-probe/1.36\r\n"
            writer.write(f"{request}Connection: close\r\n\r\n".encode())
            line = (await reader.readline()).decode(errors="replace").split()
        finally:
            writer.close()
        if not line:
            return False, "the connection was closed without an answer"
        if len(line) < 2 or not line[1].isdecimal():  # noqa: PLR2004 - "HTTP/1.1 200"
            return False, f"no HTTP answer: {' '.join(line)[:80]}"
        return int(line[1]) in _HTTP_OK, f"HTTP probe failed with statuscode: {line[1]}"

    def _port(self, port: int | str) -> int:
        if isinstance(port, int):
            return port
        named = {item.get("name"): item["containerPort"] for item in self._container.get("ports") or ()}
        return int(named[port])
