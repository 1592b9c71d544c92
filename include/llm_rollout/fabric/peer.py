"""A member of a probe: it says what its node has and runs tools when the coordinator asks."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from llm_rollout.errors import Transient
from llm_rollout.fabric import nccl, pod, sysfs, tools
from llm_rollout.fabric.inventory import Member
from llm_rollout.fabric.places import Place
from llm_rollout.fabric.wire import Wire

_RETRY_SECONDS = 0.3
_CONNECT_SECONDS = 5.0


@dataclass(frozen=True)
class Sources:
    """Where a member reads about itself: the kernel's RDMA devices and, in a Job, the pod's annotations."""

    sysfs: Path = sysfs.DEFAULT
    annotations: Path | None = None


def own_member(node: str, sources: Sources) -> Member:
    """What this node says about itself."""
    ports, error = tools.own_ports()
    return Member(node, sysfs.with_gids(ports, sources.sysfs), error, pod.read(sources.annotations))


def take_part(coordinator: Place, index: int, member: Member, sources: Sources, deadline: float) -> None:
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
        if _Session(Wire(connection), sources).serve(index, member, deadline):
            return
        time.sleep(_RETRY_SECONDS)
    raise Transient(f"the coordinator {coordinator.host}:{coordinator.port} did not answer until the deadline")


class _Session:
    """One connection to the coordinator."""

    def __init__(self, wire: Wire, sources: Sources) -> None:
        self._wire, self._sources = wire, sources
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
                case "nccl":
                    threading.Thread(target=self._nccl, args=(message,), daemon=True).start()
                case "count":
                    counted = sysfs.counters(message["hcas"], self._sources.sysfs)
                    self._sender(int(message["id"]), {"state": "done", "counters": counted})()
                case "end":
                    return True
        return False

    def _run(self, message: dict[str, Any]) -> None:
        number = int(message["id"])
        output = tools.run(
            tools.run_from_json(message["run"]),
            started=lambda tool: self._running.__setitem__(number, tool),
            listening=self._sender(number, {"state": "listening"}),
        )
        self._running.pop(number, None)
        self._sender(number, {"state": "done", "output": asdict(output)})()

    def _nccl(self, message: dict[str, Any]) -> None:
        output = tools.run_command(message["command"], message["environment"], float(message["timeout_seconds"]))
        self._sender(int(message["id"]), {"state": "done", "said": asdict(nccl.said(output))})()

    def _sender(self, number: int, message: dict[str, Any]) -> Callable[[], None]:
        def send() -> None:
            try:
                self._wire.send({"id": number, **message})
            except OSError:
                return  # The coordinator is gone; the reading thread sees it too and tries to reconnect.

        return send
