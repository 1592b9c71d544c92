"""A member of a probe: it says what its node has and runs tools when the coordinator asks."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from llm_rollout.errors import Transient
from llm_rollout.fabric import tools
from llm_rollout.fabric.inventory import Member
from llm_rollout.fabric.places import Place
from llm_rollout.fabric.wire import Wire

_RETRY_SECONDS = 0.3
_CONNECT_SECONDS = 5.0


def own_member(node: str) -> Member:
    """What this node says about itself."""
    ports, error = tools.own_ports()
    return Member(node, ports, error)


def take_part(coordinator: Place, index: int, member: Member, deadline: float) -> None:
    """Serve the coordinator until it says that the probe is over; ``deadline`` is in monotonic seconds.

    Names of new pods appear late and a coordinator may be restarted, so connecting is tried again until the
    deadline; then ``Transient``.
    """
    while time.monotonic() < deadline:
        try:
            connection = socket.create_connection((coordinator.host, coordinator.port), timeout=_CONNECT_SECONDS)
        except OSError:
            time.sleep(_RETRY_SECONDS)
            continue
        if _Session(Wire(connection)).serve(index, member, deadline):
            return
        time.sleep(_RETRY_SECONDS)
    raise Transient(f"the coordinator {coordinator.host}:{coordinator.port} did not answer until the deadline")


class _Session:
    """One connection to the coordinator."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._running: dict[int, tools.RunningTool] = {}

    def serve(self, index: int, member: Member, deadline: float) -> bool:
        """True when the coordinator ended the probe, False when the connection was lost."""
        self._wire.set_timeout(max(1.0, deadline - time.monotonic()))
        try:
            self._wire.send({"hello": index, **asdict(member)})
            return self._follow()
        except OSError:
            return False
        finally:
            for tool in list(self._running.values()):
                tool.stop()
            self._wire.close()

    def _follow(self) -> bool:
        for message in self._wire.messages():
            match message.get("do"):
                case "run":
                    threading.Thread(target=self._run, args=(message,), daemon=True).start()
                case "stop" if message["id"] in self._running:
                    self._running[message["id"]].stop()
                case "end":
                    return True
        return False

    def _run(self, message: dict[str, Any]) -> None:
        number = int(message["id"])
        output = tools.run(
            tools.Run(**message["run"]),
            started=lambda tool: self._running.__setitem__(number, tool),
            listening=self._sender(number, {"state": "listening"}),
        )
        self._running.pop(number, None)
        self._sender(number, {"state": "done", "output": asdict(output)})()

    def _sender(self, number: int, message: dict[str, Any]) -> Callable[[], None]:
        def send() -> None:
            try:
                self._wire.send({"id": number, **message})
            except OSError:
                return  # The coordinator is gone; the reading thread sees it too and tries to reconnect.

        return send
