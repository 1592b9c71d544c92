"""Startup, readiness and liveness probes of one running container."""

from __future__ import annotations

import asyncio
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
            async with asyncio.timeout(seconds):
                return await self._try(probe, seconds)
        except TimeoutError:
            return False, f"no answer within {seconds:g} s"
        except OSError as error:
            return False, f"dial: {error.strerror or error}"

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

    async def startup(self, probe: Object) -> str | None:
        """None when it has passed, the last message when its patience is over."""
        message = ""
        for _ in range(int(probe.get("failureThreshold") or 3)):
            passed, message = await self.passes(probe)
            if passed:
                return None
            await asyncio.sleep(float(probe.get("periodSeconds") or 10))
        return message

    async def _try(self, probe: Object, seconds: float) -> tuple[bool, str]:
        if action := probe.get("exec"):
            return await self._run_inside(action["command"], seconds)
        if action := probe.get("httpGet"):
            return await self._http(action)
        reader, writer = await asyncio.open_connection(self._address, self._port(probe["tcpSocket"]["port"]))
        writer.close()
        del reader
        return True, ""

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
        if len(line) < 2:  # noqa: PLR2004 - "HTTP/1.1 200"
            return False, "the connection was closed without an answer"
        return int(line[1]) in _HTTP_OK, f"HTTP probe failed with statuscode: {line[1]}"

    def _port(self, port: int | str) -> int:
        if isinstance(port, int):
            return port
        named = {item.get("name"): item["containerPort"] for item in self._container.get("ports") or ()}
        return int(named[port])
