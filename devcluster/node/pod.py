"""One pod of one node, from its binding to its end."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx

from devcluster.api import Api, ApiError
from devcluster.layout import Layout
from devcluster.node import mishaps, network, states
from devcluster.node.container import Container, forget
from devcluster.node.faults import Faults
from devcluster.node.hosts import Hosts
from devcluster.node.network import PodNetwork
from devcluster.node.states import ContainerState

Object = Mapping[str, Any]
RETRY_SECONDS = 0.5
EVICTION_GRACE_SECONDS = 1.0
"""A kubelet's, at a hard threshold."""
MOUNT_RETRY_SECONDS = 2.0


class Pod:
    """Runs a pod and reports it. Everything that changes its status calls ``changed``."""

    def __init__(self, api: Api, layout: Layout, pod: Object, faults: Faults, hosts: Hosts) -> None:
        self.api = api
        self.layout = layout
        self.pod = pod
        self.faults = faults
        self.stopping = False
        self._evicted = ""
        self._all_hosts = hosts
        self._started = (pod.get("status") or {}).get("startTime") or states.now()
        self._init = states.resumed(pod, init=True)
        self._main = states.resumed(pod, init=False)
        self._network: PodNetwork | None = None
        self._containers: list[Container] = []
        self._dirty = asyncio.Event()
        self._reported: list[Object] = (pod.get("status") or {}).get("conditions") or []
        self._lost = False
        self._said = ""
        self._telling: set[asyncio.Task[Any]] = set()
        self._tasks = [asyncio.create_task(self._live()), asyncio.create_task(self._report())]
        for task in self._tasks:
            task.add_done_callback(_complain)

    @property
    def uid(self) -> str:
        """The pod's UID."""
        return str(self.pod["metadata"]["uid"])

    @property
    def node(self) -> str:
        """The node it is bound to."""
        return str(self.pod["spec"]["nodeName"])

    @property
    def hosts(self) -> Path:
        """Its hosts file."""
        return self._all_hosts.file(self.pod["metadata"]["namespace"])

    def runs(self, container: str) -> bool:
        """Whether this container's process exists."""
        return any(item.runs for item in self._containers if item.state.name == container)

    @property
    def ending(self) -> bool:
        """Whether nothing of it is to be started again."""
        return self.stopping or bool(self._evicted)

    def changed(self) -> None:
        """Report the status soon."""
        self._dirty.set()

    def event(self, kind: str, reason: str, message: str, container: str = "") -> None:
        """Create an Event; nobody waits for it."""
        task = asyncio.create_task(self._tell(kind, reason, message, container))
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    def evict(self, message: str) -> None:
        """Make room on the node: everything ends and the pod has failed; the object stays for others to remove."""
        self._evicted = message
        self.event("Warning", "Evicted", message)
        ends = (container.stop(EVICTION_GRACE_SECONDS) for container in self._containers)
        self._tasks += [asyncio.create_task(end) for end in ends]
        self.changed()

    async def stop(self, grace_seconds: float) -> None:
        """End it as a deletion asks, then remove the object."""
        self.stopping = True
        await asyncio.gather(*(container.stop(grace_seconds) for container in self._containers))
        if self._lost:
            return
        await self.vanish()
        with contextlib.suppress(ApiError, httpx.HTTPError):
            await self._send()
        forget(self.layout, self.uid)
        await self.remove_object()

    async def vanish(self) -> None:
        """End everything at once and report nothing more: the node has lost power, or the object is gone."""
        self.stopping = self._lost = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._release()

    async def remove_object(self) -> None:
        """Delete the API object, if it still is this very pod."""
        body = {"gracePeriodSeconds": 0, "preconditions": {"uid": self.uid}}
        while True:
            try:
                await self.api.delete(self._path(), body)
            except ApiError as error:
                if error.status == httpx.codes.CONFLICT:
                    return
            except httpx.HTTPError:
                pass
            else:
                return
            await asyncio.sleep(RETRY_SECONDS)

    async def _live(self) -> None:
        try:
            await self._mount()
            self._network = await self._connect()
            self._all_hosts.add_pod(self.pod, self._network.address)
            self.changed()
            if await self._initialize(self._network):
                await self._run(self._network)
        finally:
            await self._release()

    async def _mount(self) -> None:
        """Wait for the storage server, where a fault keeps it away."""
        claims = [
            volume["name"] for volume in self.pod["spec"].get("volumes") or () if "persistentVolumeClaim" in volume
        ]
        pod, container = self.pod["metadata"]["name"], self.pod["spec"]["containers"][0]["name"]
        while claims and self.faults.strike(pod, container, ("mount",)):
            self.event("Warning", "FailedMount", mishaps.failed_mount(claims[0], self.uid))
            await asyncio.sleep(MOUNT_RETRY_SECONDS)

    async def _connect(self) -> PodNetwork:
        while True:
            try:
                return await network.create()
            except OSError as error:
                self.event("Warning", "FailedCreatePodSandBox", f"Failed to create pod sandbox: {error}")
                await asyncio.sleep(RETRY_SECONDS)

    async def _initialize(self, net: PodNetwork) -> bool:
        """Run the init containers one after another; whether the pod may go on."""
        for definition, state in zip(self.pod["spec"].get("initContainers") or (), self._init, strict=True):
            if not state.finished:
                await self._container(definition, state, net).run(self._again(init=True))
            if state.exit_code or self.stopping:
                for other in self._main:
                    other.finished = True
                self.changed()
                return False
        return True

    def _again(self, *, init: bool) -> Callable[[int], bool]:
        policy = self.pod["spec"].get("restartPolicy", "Always")
        return lambda code: states.starts_again(policy, code, init=init)

    async def _run(self, net: PodNetwork) -> None:
        pairs = zip(self.pod["spec"]["containers"], self._main, strict=True)
        containers = [self._container(definition, state, net) for definition, state in pairs if not state.finished]
        async with asyncio.TaskGroup() as group:
            for container in containers:
                group.create_task(container.run(self._again(init=False)))

    def _container(self, definition: Object, state: ContainerState, net: PodNetwork) -> Container:
        container = Container(self, definition, state, net)
        self._containers.append(container)
        return container

    async def _release(self) -> None:
        """Kill what still runs and give the network back."""
        for container in self._containers:
            if container.process is not None and container.runs:
                container.process.signal(9)
                await container.process.outer.wait()
        self._all_hosts.remove_pod(self.uid)
        if self._network is not None:
            await self._network.remove()

    async def _report(self) -> None:
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            try:
                await self._send()
            except ApiError as error:
                if error.status == httpx.codes.NOT_FOUND:
                    return
                self._say_once(f"{self.pod['metadata']['name']}: {error}")
                await self._later()
            except httpx.HTTPError:
                await self._later()

    def _say_once(self, text: str) -> None:
        if text != self._said:
            print(text, flush=True)
        self._said = text

    async def _later(self) -> None:
        await asyncio.sleep(RETRY_SECONDS)
        self._dirty.set()

    async def _send(self) -> None:
        address = self._network.address if self._network else ""
        status = states.pod_status(self.pod, address, self._init, self._main, self._started)
        if self._evicted:
            status |= mishaps.evicted(self._evicted)
        status["conditions"] = states.with_times(status["conditions"], self._reported)
        if address:
            # Addresses merge by themselves, and a pod that is started again has another one than before.
            status["podIPs"] = [{"$patch": "replace"}, *status["podIPs"]]
        await self.api.patch(f"{self._path()}/status", {"metadata": {"uid": self.uid}, "status": status})
        self._reported = status["conditions"]

    def _path(self) -> str:
        metadata = self.pod["metadata"]
        return f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"

    async def _tell(self, kind: str, reason: str, message: str, container: str) -> None:
        metadata, time = self.pod["metadata"], states.now()
        reference = {"kind": "Pod", "apiVersion": "v1"} | {key: metadata[key] for key in ("namespace", "name", "uid")}
        if container:
            reference["fieldPath"] = f"spec.containers{{{container}}}"
        body = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{metadata['name']}.{secrets.token_hex(8)}", "namespace": metadata["namespace"]},
            "involvedObject": reference,
            "type": kind,
            "reason": reason,
            "message": message[:1000],
            "source": {"component": "kubelet", "host": self.node},
            "reportingComponent": "kubelet",
            "reportingInstance": self.node,
            "firstTimestamp": time,
            "lastTimestamp": time,
            "count": 1,
        }
        with contextlib.suppress(ApiError, httpx.HTTPError):
            await self.api.create(f"/api/v1/namespaces/{metadata['namespace']}/events", body)


def _complain(task: asyncio.Task[None]) -> None:
    """Raise what ended a pod's work in the event loop, which writes it to the log."""
    if not task.cancelled() and (error := task.exception()):
        raise error
