"""A stand-in for a Gateway API implementation: HTTPRoutes with weights, for HTTP/1.1, and what they report as status.

Every Gateway of class ``devcluster`` listens at one address; requests go by path prefix and weight to the ClusterIP of
a Service. Header matches, filters, hostnames and TLS are not looked at: a route that has them is served without.
``make test-gateway`` compares it with Traefik.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devcluster.api import Api, ApiError, Collections, follow
from devcluster.layout import GATEWAY_PORT, ROOT_ADDRESS, Layout
from devcluster.relay import CONNECT_TIMEOUT_SECONDS, Connection, Target, joined, pump, reset

CLASS = "devcluster"
CONTROLLER = "llm-rollout.dev/devcluster-gateway"
_GROUP = "/apis/gateway.networking.k8s.io/v1"
_FOLLOWED = {"gateways": f"{_GROUP}/gateways", "routes": f"{_GROUP}/httproutes", "services": "/api/v1/services"}
_LONGEST_HEAD_BYTES = 1 << 16
_UNAVAILABLE = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

Manifest = Mapping[str, Any]


@dataclass(frozen=True)
class Rule:
    """Where requests below one path go."""

    prefix: str
    backends: tuple[tuple[Target, int], ...]
    """Addresses with their weights; those of weight 0 are left out."""


def rules(seen: Collections) -> list[Rule]:
    """The rules of all routes that name a Gateway of ours, the longest prefix first."""
    found = [
        Rule(prefix, tuple(_backends(route, rule, seen)))
        for route in seen["routes"].values()
        if parents(route, seen)
        for rule in route["spec"].get("rules") or ()
        for prefix in _prefixes(rule)
    ]
    return sorted(found, key=lambda rule: -len(rule.prefix))


def parents(route: Manifest, seen: Collections) -> list[dict[str, Any]]:
    """The status of a route at our Gateways, as the Gateway API asks for it."""
    references = [ref for rule in route["spec"].get("rules") or () for ref in rule.get("backendRefs") or ()]
    missing = [ref["name"] for ref in references if _key(route, ref) not in seen["services"]]
    told = f"Service {', '.join(missing)} does not exist" if missing else ""
    conditions = [
        _condition(route, "Accepted", "Accepted", ""),
        _condition(route, "ResolvedRefs", "BackendNotFound" if missing else "ResolvedRefs", told),
    ]
    return [
        {"parentRef": parent, "controllerName": CONTROLLER, "conditions": conditions}
        for parent in route["spec"].get("parentRefs") or ()
        if _is_ours(seen["gateways"].get(_key(route, parent)))
    ]


def _condition(route: Manifest, type_: str, reason: str, message: str) -> dict[str, Any]:
    return {
        "type": type_, "status": "False" if message else "True", "reason": reason, "message": message,
        "observedGeneration": route["metadata"]["generation"],
        "lastTransitionTime": route["metadata"]["creationTimestamp"],
    }  # fmt: skip


def _is_ours(gateway: Manifest | None) -> bool:
    return gateway is not None and bool(gateway["spec"]["gatewayClassName"] == CLASS)


def _key(route: Manifest, ref: Manifest) -> str:
    return f"{ref.get('namespace', route['metadata']['namespace'])}/{ref['name']}"


def _prefixes(rule: Manifest) -> Iterator[str]:
    matches = rule.get("matches") or [{}]
    yield from (match.get("path", {}).get("value", "/") for match in matches)


def _backends(route: Manifest, rule: Manifest, seen: Collections) -> Iterator[tuple[Target, int]]:
    for ref in rule.get("backendRefs") or ():
        service = seen["services"].get(_key(route, ref))
        if service is not None and ref.get("weight", 1):
            yield (service["spec"]["clusterIP"], int(ref["port"])), int(ref.get("weight", 1))


class Gateway:
    """Takes requests, one for each connection, by the rules of the moment."""

    def __init__(self) -> None:
        """Without rules every request is refused."""
        self.rules: Sequence[Rule] = ()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection: the head of its request decides where all of it goes."""
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            path = head.split(b" ", 2)[1].decode("ascii", "replace")
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError, IndexError):
            reset(writer)
            return
        rule = next((rule for rule in self.rules if _below(path, rule.prefix)), None)
        if rule is None or not rule.backends:
            await _refuse(writer, _NOT_FOUND if rule is None else _UNAVAILABLE)
            return
        (chosen,) = random.choices([each for each, _ in rule.backends], [weight for _, weight in rule.backends])
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
                server = await asyncio.open_connection(*chosen)
        except OSError:
            await _refuse(writer, _UNAVAILABLE)
            return
        await _pass_on((reader, writer), server, head)


def _below(path: str, prefix: str) -> bool:
    wanted = prefix.rstrip("/")
    plain = path.partition("?")[0]
    return plain == wanted or plain.startswith(f"{wanted}/")


async def _pass_on(client: Connection, server: Connection, head: bytes) -> None:
    """Both sides learn that the connection ends with this request: the next one may go elsewhere."""
    server[1].write(_closing(head))
    await joined(client, server, _answer(server[0], client[1]))


async def _answer(server: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
    try:
        head = await server.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
        raise ConnectionError("no answer") from error
    client.write(_closing(head))
    await pump(server, client)


def _closing(head: bytes) -> bytes:
    lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    kept = [line for line in lines if not line.lower().startswith((b"connection:", b"keep-alive:"))]
    return b"\r\n".join([*kept, b"Connection: close", b"", b""])


async def _refuse(writer: asyncio.StreamWriter, answer: bytes) -> None:
    writer.write(answer)
    await writer.drain()
    writer.close()


async def serve(kubeconfig: Path) -> None:
    """Follow Gateways, HTTPRoutes and Services for ever."""
    gateway = Gateway()
    await asyncio.start_server(gateway.serve, ROOT_ADDRESS, GATEWAY_PORT, limit=_LONGEST_HEAD_BYTES)
    async with Api(kubeconfig) as api:

        async def apply(seen: Collections) -> None:
            gateway.rules = rules(seen)
            await _report(api, seen)

        await follow(api, _FOLLOWED, apply)


async def _report(api: Api, seen: Collections) -> None:
    """Say what holds now; only after it holds."""
    for route in seen["routes"].values():
        told = parents(route, seen)
        there = route.get("status", {}).get("parents") or []
        wanted = [*(one for one in there if one["controllerName"] != CONTROLLER), *told]
        if told and wanted != there:
            await _write(api, route, {"parents": wanted})


async def _write(api: Api, route: Manifest, status: Manifest) -> None:
    metadata = route["metadata"]
    path = f"{_GROUP}/namespaces/{metadata['namespace']}/httproutes/{metadata['name']}/status"
    try:
        await api.merge(path, {"status": status})
    except ApiError as error:
        print(f"{metadata['name']}: {error}", flush=True)


def main() -> int:
    """Run until killed."""
    parser = argparse.ArgumentParser(prog="python -m devcluster.gateway", description=__doc__)
    parser.add_argument("--home", type=Path, required=True, help="the devcluster's home")
    options = parser.parse_args()
    asyncio.run(serve(Layout(options.home).inside_kubeconfig))
    return 0


if __name__ == "__main__":
    sys.exit(main())
