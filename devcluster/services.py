"""What kube-proxy does, for TCP: ClusterIPs lead to the ready endpoints of their EndpointSlices."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from devcluster.api import Api, Collections, follow
from devcluster.layout import Layout
from devcluster.relay import Listener, Target

Routes = dict[Target, tuple[Target, ...]]
"""From ClusterIP and port to the addresses that take its connections now."""

SERVICE_LABEL = "kubernetes.io/service-name"
_FOLLOWED = {"services": "/api/v1/services", "slices": "/apis/discovery.k8s.io/v1/endpointslices"}


def routes(services: Mapping[str, Any], slices: Mapping[str, Any]) -> Routes:
    """The routes that these Services and EndpointSlices (by ``namespace/name``) ask for."""
    by_service: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for item in slices.values():
        metadata = item["metadata"]
        owner = (metadata["namespace"], (metadata.get("labels") or {}).get(SERVICE_LABEL, ""))
        by_service.setdefault(owner, []).append(item)
    found: Routes = {}
    for service in services.values():
        metadata, spec = service["metadata"], service["spec"]
        own = by_service.get((metadata["namespace"], metadata["name"]), [])
        for port in _tcp_ports(spec):
            found[(spec["clusterIP"], port["port"])] = _backends(own, port.get("name") or "")
    return found


def _tcp_ports(spec: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    if spec.get("clusterIP") in (None, "", "None"):
        return
    yield from (port for port in spec.get("ports") or () if port.get("protocol", "TCP") == "TCP")


def _backends(slices: Iterable[Mapping[str, Any]], port_name: str) -> tuple[Target, ...]:
    """The ready ones; when there is none, those that still serve while they terminate, as kube-proxy has it."""
    ready: set[Target] = set()
    draining: set[Target] = set()
    for item in slices:
        ports = [port["port"] for port in item.get("ports") or () if (port.get("name") or "") == port_name]
        for endpoint in item.get("endpoints") or ():
            conditions = endpoint.get("conditions") or {}
            targets = {(address, port) for address in endpoint["addresses"] for port in ports}
            if conditions.get("ready", True):
                ready |= targets
            elif conditions.get("serving") and conditions.get("terminating"):
                draining |= targets
    return tuple(sorted(ready or draining))


class Front:
    """One ClusterIP and port: new connections go round the backends of the moment, open ones stay."""

    def __init__(self) -> None:
        self.backends: tuple[Target, ...] = ()
        self._turn = 0
        self.listener = Listener(self._next)

    def _next(self) -> Target | None:
        if not self.backends:
            return None
        self._turn += 1
        return self.backends[self._turn % len(self.backends)]


class Forwarder:
    """The listeners of all routes. A route without backends has no listener, so connections are refused."""

    def __init__(self) -> None:
        self._fronts: dict[Target, Front] = {}

    async def apply(self, wanted: Routes) -> None:
        """Open, redirect and close listeners until they are as wanted."""
        for address in [address for address in self._fronts if not wanted.get(address)]:
            self._fronts.pop(address).listener.close()
            print(f"{_text(address)}: no ready endpoint", flush=True)
        for address, backends in wanted.items():
            if backends:
                await self._redirect(address, backends)

    async def _redirect(self, address: Target, backends: tuple[Target, ...]) -> None:
        front = self._fronts.get(address) or Front()
        if front.backends == backends:
            return
        front.backends = backends
        if address not in self._fronts:
            try:
                await front.listener.listen(address)
            except OSError as error:
                print(f"{_text(address)}: {error}", flush=True)
                return
            self._fronts[address] = front
        print(f"{_text(address)} -> {', '.join(map(_text, backends))}", flush=True)


def _text(target: Target) -> str:
    return f"{target[0]}:{target[1]}"


async def serve(kubeconfig: Path) -> None:
    """Follow Services and EndpointSlices for ever."""
    forwarder = Forwarder()

    async def apply(seen: Collections) -> None:
        await forwarder.apply(routes(seen["services"], seen["slices"]))

    async with Api(kubeconfig) as api:
        await follow(api, _FOLLOWED, apply)


def main() -> int:
    """Run until killed."""
    parser = argparse.ArgumentParser(prog="python -m devcluster.services", description=__doc__)
    parser.add_argument("--home", type=Path, required=True, help="the devcluster's home")
    options = parser.parse_args()
    asyncio.run(serve(Layout(options.home).inside_kubeconfig))
    return 0


if __name__ == "__main__":
    sys.exit(main())
