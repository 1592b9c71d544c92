"""One pod of one node, from its binding to its end."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from devcluster.api import Api, ApiError
from devcluster.layout import Layout
from devcluster.node import network, states
from devcluster.node.container import Container, forget
from devcluster.node.faults import Faults
from devcluster.node.hosts import Hosts
from devcluster.node.network import PodNetwork
from devcluster.node.states import ContainerState

Object = Mapping[str, Any]
RETRY_SECONDS = 0.5


class Pod:
    """Runs a pod and reports it. Everything that changes its status calls ``changed``."""

    def __init__(self, api: Api, layout: Layout, pod: Object, faults: Faults, hosts: Hosts) -> None:
        self.api = api
        self.layout = layout
        self.pod = pod
        self.faults = faults
        self.stopping = False
        self._all_hosts = hosts
        self._started = (pod.get("status") or {}).get("startTime") or states.now()
        self._init = _states(pod, "initContainers", "initContainerStatuses")
        self._main = _states(pod, "containers", "containerStatuses")
        self._network: PodNetwork | None = None
        self._containers: list[Container] = []
        self._dirty = asyncio.Event()
        self._reported: list[Object] = (pod.get("status") or {}).get("conditions") or []
        self._tasks = [asyncio.create_task(self._live()), asyncio.create_task(self._report())]
        self._telling: set[asyncio.Task[Any]] = set()

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

    def changed(self) -> None:
        """Report the status soon."""
        self._dirty.set()

    def event(self, kind: str, reason: str, message: str, container: str = "") -> None:
        """Create an Event; nobody waits for it."""
        task = asyncio.create_task(self._tell(kind, reason, message, container))
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def stop(self, grace_seconds: float) -> None:
        """End it as a deletion asks, then remove the object."""
        self.stopping = True
        await asyncio.gather(*(container.stop(grace_seconds) for container in self._containers))
        await self.vanish()
        forget(self.layout, self.uid)
        await self.remove_object()

    async def vanish(self) -> None:
        """End everything at once and report nothing more: the node has lost power, or the object is gone."""
        self.stopping = True
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
                if error.status != httpx.codes.CONFLICT:
                    raise
            except httpx.HTTPError:
                await asyncio.sleep(RETRY_SECONDS)
                continue
            return

    async def _live(self) -> None:
        try:
            self._network = await network.create()
            self._all_hosts.add_pod(self.pod, self._network.address)
            self.changed()
            if await self._initialize(self._network):
                await self._run(self._network)
        finally:
            await self._release()

    async def _initialize(self, net: PodNetwork) -> bool:
        policy = self.pod["spec"].get("restartPolicy", "Always")
        for definition, state in zip(self.pod["spec"].get("initContainers") or (), self._init, strict=True):
            if state.exit_code == 0:
                continue
            container = self._container(definition, state, net)
            await container.run(lambda code: code != 0 and policy != "Never")
            if state.exit_code:
                for other in self._main:
                    other.finished = True
                self.changed()
                return False
        return True

    async def _run(self, net: PodNetwork) -> None:
        policy = self.pod["spec"].get("restartPolicy", "Always")

        def again(code: int) -> bool:
            return policy == "Always" or (policy == "OnFailure" and code != 0)

        pairs = zip(self.pod["spec"]["containers"], self._main, strict=True)
        containers = [self._container(definition, state, net) for definition, state in pairs if not state.finished]
        async with asyncio.TaskGroup() as group:
            for container in containers:
                group.create_task(container.run(again))

    def _container(self, definition: Object, state: ContainerState, net: PodNetwork) -> Container:
        container = Container(self, definition, state, net)
        self._containers.append(container)
        return container

    async def _release(self) -> None:
        """Kill what still runs and give the network back."""
        for container in self._containers:
            if container.process is not None and container.process.outer.returncode is None:
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
                if error.status in (httpx.codes.NOT_FOUND, httpx.codes.CONFLICT):
                    return
                await self._later()
            except httpx.HTTPError:
                await self._later()

    async def _later(self) -> None:
        await asyncio.sleep(RETRY_SECONDS)
        self._dirty.set()

    async def _send(self) -> None:
        address = self._network.address if self._network else ""
        status = states.pod_status(self.pod, address, self._init, self._main, self._started)
        status["conditions"] = states.with_times(status["conditions"], self._reported)
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


def _states(pod: Object, definitions: str, statuses: str) -> list[ContainerState]:
    """Fresh states; where an earlier agent has reported a container, it counts as restarted unless it was done."""
    known = {entry["name"]: entry for entry in (pod.get("status") or {}).get(statuses) or ()}
    found = []
    for definition in pod["spec"].get(definitions) or ():
        state = ContainerState(definition["name"], definition["image"])
        if (before := known.get(state.name)) and "waiting" not in before["state"]:
            state.restarts = before["restartCount"] + 1
            state.last_state = before["state"]
            ended = before["state"].get("terminated")
            if ended and (definitions == "initContainers" or pod["spec"].get("restartPolicy") == "Never"):
                state.state, state.finished = before["state"], True
        found.append(state)
    return found
