"""The one process from which a whole devcluster hangs; it runs inside the cluster's namespaces.

Process 1 of the PID namespace only waits for the supervisor, its child: when either ends, for whatever reason, the
kernel ends every other process of the cluster and removes the network and the mounts with it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import httpx

from devcluster import bootstrap, control, controlplane, network, nodes, volumes
from devcluster.api import Api, ApiError
from devcluster.controlplane import Component
from devcluster.keeping import Keeper
from devcluster.layout import API_PORT, HUB_PORT, ROOT_ADDRESS, Layout, write_json
from devcluster.relay import Listener
from devcluster.waiting import until

UP_SECONDS = 60.0
HUB_UP_SECONDS = 300.0
"""The hub may first have to make its models."""
END_SECONDS = 3.0
RETRY_SECONDS = 1.0


class Supervisor:
    """Starts the components in order, keeps them running and answers commands."""

    def __init__(self, layout: Layout, programs: Path, outside: dict[str, socket.socket]) -> None:
        self._layout = layout
        self._programs = programs
        self._outside = outside
        self._keepers: dict[str, Keeper] = {}
        self._background: set[asyncio.Task[None]] = set()
        self._stop = asyncio.Event()
        self._phase = "starting"
        self._message = ""
        self._began = time.monotonic()

    async def run(self) -> int:
        """Live until told to stop; 1 when the start failed."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        control.serve(self._layout.control_socket, self._handle, loop)
        starting = asyncio.create_task(self._start())
        await self._stop.wait()
        starting.cancel()
        await self._end()
        return 1 if self._phase == "failed" else 0

    async def _start(self) -> None:
        try:
            await self._start_all()
            self._phase = "ready"
            self._say("ready")
        except Exception as error:  # noqa: BLE001 - whatever it is has to reach the person who waits for the start
            self._phase, self._message = "failed", f"{type(error).__name__}: {error}"
            self._say(self._message)

    async def _start_all(self) -> None:
        layout, programs, state = self._layout, self._programs, self._layout.read_state()
        manifests = programs / "manifests"
        network.set_up(state["nodes"])
        self._keep(controlplane.etcd(layout, programs))
        hub = self._keep(controlplane.hub(layout))
        await self._keepers["etcd"].up(UP_SECONDS)
        await self._keep(controlplane.api_server(layout, programs)).up(UP_SECONDS)
        await self._relay(self._outside["api"], ROOT_ADDRESS, API_PORT)
        await self._relay(self._outside["hub"], ROOT_ADDRESS, HUB_PORT)
        async with Api(layout.inside_kubeconfig) as api:
            await until(api.healthy, UP_SECONDS)
            self._keep(controlplane.scheduler(layout, programs))
            self._keep(controlplane.node_agent(layout))
            self._keep(controlplane.services(layout))
            self._keep(controlplane.gateway(layout))
            objects = bootstrap.objects(api, state["nodes"], state["gpus"])
            await asyncio.gather(objects, bootstrap.custom_resources(api, manifests))
            self._in_background(self._endure(lambda api: volumes.provision(api, layout)))
            self._in_background(self._endure(lambda api: nodes.keep_alive(api, layout, state["nodes"])))
            self._keep(controlplane.controller_manager(layout, programs))
            await self._keep(controlplane.lws(layout, programs)).up(UP_SECONDS)
            await bootstrap.webhooks(api, manifests, layout)
            await bootstrap.usable(api, len(state["nodes"]))
        for keeper in self._keepers.values():
            await keeper.up(HUB_UP_SECONDS if keeper is hub else UP_SECONDS)

    def _keep(self, component: Component) -> Keeper:
        keeper = Keeper(component, self._layout.logs)
        self._keepers[component.name] = keeper
        self._in_background(keeper.run())
        return keeper

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        self._background.add(asyncio.create_task(work))

    async def _endure(self, work: Callable[[Api], Awaitable[None]]) -> None:
        """Do ``work`` for ever; an API server that is away is awaited, not fatal."""
        async with Api(self._layout.inside_kubeconfig) as api:
            while True:
                try:
                    await work(api)
                except (httpx.HTTPError, ApiError) as error:
                    self._say(f"{type(error).__name__}: {error}")
                await asyncio.sleep(RETRY_SECONDS)

    async def _relay(self, sock: socket.socket, host: str, port: int) -> None:
        listener = Listener(lambda: (host, port))
        await listener.listen(sock)

    async def _handle(self, request: dict[str, Any], sockets: list[socket.socket]) -> dict[str, Any]:
        match request["command"]:
            case "status":
                components = [keeper.describe() for keeper in self._keepers.values()]
                seconds = time.monotonic() - self._began
                return {
                    "phase": self._phase,
                    "message": self._message,
                    "seconds": seconds,
                    "components": components,
                }
            case "expose":
                await self._relay(sockets[0], request["host"], request["port"])
                state = self._layout.read_state()
                write_json(self._layout.state_file, state | {"exposed": [*state["exposed"], request["exposed"]]})
                return {}
            case "stop":
                self._stop.set()
                return {}
            case other:
                raise ValueError(f"command {other!r}: there are status, expose and stop")

    async def _end(self) -> None:
        """Let the node agent and the hub put things down; the kernel ends whatever is left."""
        for task in self._background:
            task.cancel()
        ending = [self._keepers[name] for name in ("node-agent", "hub") if name in self._keepers]
        await asyncio.gather(*(keeper.end(END_SECONDS) for keeper in ending))

    def _say(self, text: str) -> None:
        print(f"{time.monotonic() - self._began:6.1f} s  {text}", flush=True)


def main() -> int:
    """Wait for the supervisor as process 1; be the supervisor as its child."""
    options = _parser().parse_args()
    child = os.fork()
    if child:
        return _wait_for(child)
    outside = {"api": socket.socket(fileno=options.api_socket), "hub": socket.socket(fileno=options.hub_socket)}
    return asyncio.run(_supervise(Layout(options.home), options.programs, outside))


async def _supervise(layout: Layout, programs: Path, outside: dict[str, socket.socket]) -> int:
    return await Supervisor(layout, programs, outside).run()


def _wait_for(child: int) -> int:
    """Collect orphans until the supervisor ends. Signals go to it; as process 1 we would ignore them."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _: os.kill(child, received))
    while True:
        pid, status = os.wait()
        if pid == child:
            return os.waitstatus_to_exitcode(status) & 0xFF


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m devcluster.supervisor", description=__doc__)
    parser.add_argument("--home", type=Path, required=True, help="the devcluster's home")
    parser.add_argument("--programs", type=Path, required=True, help="the built control plane")
    parser.add_argument("--api-socket", type=int, required=True, help="listening socket for the API server's relay")
    parser.add_argument("--hub-socket", type=int, required=True, help="listening socket for the hub's relay")
    return parser


if __name__ == "__main__":
    sys.exit(main())
