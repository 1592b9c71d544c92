"""The few verbs of the Kubernetes API that the cluster's own parts need, asynchronous."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import yaml

Manifest = Mapping[str, Any]
Collections = Mapping[str, Mapping[str, Any]]
"""Objects by ``namespace/name``, by what the collection is called."""

RELIST_PAUSE_SECONDS = 0.3
"""Between a watch that broke and the next listing: short, for the API server restarts within seconds."""


class ApiError(Exception):
    """The API server refused; ``status`` is its HTTP status."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"HTTP {status}: {text}")
        self.status = status


class Api:
    """One connection pool to the API server of a kubeconfig that devcluster wrote."""

    def __init__(self, kubeconfig: Path, timeout_seconds: float = 10) -> None:
        config = yaml.safe_load(kubeconfig.read_text())
        cluster = config["clusters"][0]["cluster"]
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        self._http = httpx.AsyncClient(
            base_url=cluster["server"],
            headers={"Authorization": f"Bearer {config['users'][0]['user']['token']}"},
            verify=ssl.create_default_context(cadata=authority),
            timeout=timeout_seconds,
            trust_env=False,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def get(self, path: str, **params: str) -> Any:
        """The object or list at ``path``. Raises ApiError, httpx.HTTPError."""
        return _checked(await self._http.get(path, params=params)).json()

    async def healthy(self) -> bool:
        """Whether the API server says that it is ready."""
        try:
            return (await self._http.get("/readyz")).is_success
        except httpx.HTTPError:
            return False

    async def discovery(self) -> Any:
        """The aggregated list of all named API groups with their resources. Raises ApiError, httpx.HTTPError."""
        accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
        return _checked(await self._http.get("/apis", headers={"Accept": accept})).json()

    async def create(self, path: str, body: Manifest | bytes) -> bool:
        """Create in the collection ``path`` (bytes are YAML); False when it was there already."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        kind = "application/yaml" if isinstance(body, bytes) else "application/json"
        reply = await self._http.post(path, content=content, headers={"Content-Type": kind})
        if reply.status_code == httpx.codes.CONFLICT:
            return False
        _checked(reply)
        return True

    async def patch(self, path: str, body: Manifest) -> Any:
        """Strategic merge patch: lists with keys merge by key."""
        return await self._patch(path, body, "strategic-merge-patch")

    async def merge(self, path: str, body: Manifest) -> Any:
        """JSON merge patch, which custom resources take: a list takes the place of the one that is there."""
        return await self._patch(path, body, "merge-patch")

    async def _patch(self, path: str, body: Manifest, kind: str) -> Any:
        headers = {"Content-Type": f"application/{kind}+json"}
        return _checked(await self._http.patch(path, content=json.dumps(body).encode(), headers=headers)).json()

    async def delete(self, path: str, options: Manifest | None = None) -> None:
        """Delete the object, under ``options`` if given; already gone is fine."""
        reply = await self._http.request("DELETE", path, json=options)
        if reply.status_code != httpx.codes.NOT_FOUND:
            _checked(reply)

    async def snapshots(self, path: str) -> AsyncIterator[dict[str, Any]]:
        """All objects of a collection by ``namespace/name``, now and after each change, for ever.

        It is the same dictionary each time. A broken watch is listed anew.
        """
        objects: dict[str, Any] = {}
        while True:
            try:
                listing = await self.get(path)
                objects.clear()
                objects.update({_key(item): item for item in listing.get("items") or ()})
                yield objects
                async for event in self._events(path, listing["metadata"]["resourceVersion"]):
                    if _take_in(objects, event):
                        yield objects
            except (httpx.HTTPError, ApiError):
                await asyncio.sleep(RELIST_PAUSE_SECONDS)

    async def _events(self, path: str, version: str) -> AsyncIterator[dict[str, Any]]:
        params = {"watch": "1", "resourceVersion": version, "timeoutSeconds": "300"}
        unhurried = httpx.Timeout(10, read=None)
        async with self._http.stream("GET", path, params=params, timeout=unhurried) as reply:
            if reply.is_error:
                raise ApiError(reply.status_code, "watch refused")
            async for line in reply.aiter_lines():
                event: dict[str, Any] = json.loads(line)
                if event["type"] == "ERROR":
                    raise ApiError(int(event["object"].get("code", 0)), "watch ended")
                yield event


async def follow(api: Api, paths: Mapping[str, str], apply: Callable[[Collections], Awaitable[None]]) -> None:
    """Call ``apply`` with the objects of these collections, once all are known and after each change, for ever."""
    seen: dict[str, dict[str, Any]] = {}
    changed = asyncio.Event()

    async def take_in(name: str, path: str) -> None:
        async for objects in api.snapshots(path):
            seen[name] = objects
            changed.set()

    async with asyncio.TaskGroup() as group:
        for name, path in paths.items():
            group.create_task(take_in(name, path))
        while True:
            await changed.wait()
            changed.clear()
            if seen.keys() == paths.keys():
                await apply(seen)


def _take_in(objects: dict[str, Any], event: dict[str, Any]) -> bool:
    key = _key(event["object"])
    if event["type"] == "DELETED":
        return objects.pop(key, None) is not None
    objects[key] = event["object"]
    return True


def _key(item: Mapping[str, Any]) -> str:
    metadata = item["metadata"]
    return f"{metadata.get('namespace', '')}/{metadata['name']}"


def _checked(reply: httpx.Response) -> httpx.Response:
    if reply.is_error:
        try:
            text = reply.json().get("message", reply.text)
        except ValueError:
            text = reply.text
        raise ApiError(reply.status_code, f"{reply.request.method} {reply.request.url.path}: {text}")
    return reply
