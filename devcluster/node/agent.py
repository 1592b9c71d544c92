"""Watches the pods of all nodes and runs them."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
from collections.abc import Coroutine, Iterable, Mapping
from pathlib import Path
from typing import Any

from devcluster.api import Api
from devcluster.layout import Layout
from devcluster.node.faults import Faults
from devcluster.node.hosts import Hosts
from devcluster.node.kubelet import Kubelet
from devcluster.node.pod import Pod
from devcluster.node.refusal import Refusal
from devcluster.node.sandbox import write_programs

FAILED_NODES_SECONDS = 0.3
_ENDED = ("Succeeded", "Failed")
_DEFAULT_GRACE_SECONDS = 30


class Agent:
    """All pods of all nodes."""

    def __init__(self, api: Api, layout: Layout) -> None:
        self._api = api
        self._layout = layout
        self._nodes: list[str] = layout.read_state()["nodes"]
        self._faults = Faults(layout)
        self._hosts = Hosts(layout)
        self._pods: dict[str, Pod] = {}
        self._known: Mapping[str, Any] = {}
        self._failed: set[str] = set()
        self._working: set[asyncio.Task[None]] = set()
        self._done = asyncio.Event()

    async def run(self) -> None:
        """Work until SIGTERM."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._done.set)
        write_programs(self._layout)
        refusal = Refusal(self._api, self._layout, self._nodes, self._faults)
        await Kubelet(self._layout, self._nodes, self).start(refusal.route)
        lifting = refusal.install_and_lift(self._manifests)
        for work in (self._watch_pods(), self._watch_services(), self._watch_failed_nodes(), lifting):
            self._begin(work)
        await self._done.wait()
        for task in self._working:
            task.cancel()
        await asyncio.gather(*(pod.vanish() for pod in self._pods.values()))

    async def _watch_pods(self) -> None:
        async for pods in self._api.snapshots("/api/v1/pods"):
            self._known = pods
            self._reconcile()

    async def _watch_services(self) -> None:
        async for services in self._api.snapshots("/api/v1/services"):
            self._hosts.set_services(services.values())

    async def _watch_failed_nodes(self) -> None:
        while True:
            failed = self._layout.failed_nodes()
            if failed != self._failed:
                self._failed = failed
                lost = [uid for uid, pod in self._pods.items() if pod.node in failed]
                await asyncio.gather(*(self._pods.pop(uid).vanish() for uid in lost))
                self._reconcile()
            await asyncio.sleep(FAILED_NODES_SECONDS)

    def _reconcile(self) -> None:
        """Start what is new, end what shall end. Called after every change, so it only compares."""
        wanted = {pod["metadata"]["uid"]: pod for pod in self._known.values() if self._is_ours(pod)}
        for uid in self._pods.keys() - wanted.keys():
            self._begin(self._forget(self._pods.pop(uid)))
        for uid, manifest in wanted.items():
            self._look_at(uid, manifest)

    def _is_ours(self, pod: Mapping[str, Any]) -> bool:
        node = pod["spec"].get("nodeName")
        return node in self._nodes and node not in self._failed

    def _look_at(self, uid: str, manifest: Mapping[str, Any]) -> None:
        pod = self._pods.get(uid)
        deleted = "deletionTimestamp" in manifest["metadata"]
        if pod is None:
            ended = (manifest.get("status") or {}).get("phase") in _ENDED
            if ended and not deleted:
                return
            pod = self._pods[uid] = Pod(self._api, self._layout, manifest, self._faults, self._hosts)
        if deleted and not pod.stopping:
            pod.stopping = True
            grace = manifest["metadata"].get("deletionGracePeriodSeconds", _DEFAULT_GRACE_SECONDS)
            self._begin(pod.stop(float(grace)))

    async def _forget(self, pod: Pod) -> None:
        await pod.vanish()
        shutil.rmtree(self._layout.pods / pod.uid, ignore_errors=True)

    def _manifests(self) -> Iterable[Mapping[str, Any]]:
        return self._known.values()

    def log_folder(self, namespace: str, pod: str) -> Path | None:
        """Where the logs of a pod's containers lie; None when it is unknown or its node plays dead."""
        found = self._known.get(f"{namespace}/{pod}")
        if found is None or found["spec"].get("nodeName") in self._failed:
            return None
        return self._layout.pods / str(found["metadata"]["uid"])

    def runs(self, namespace: str, pod: str, container: str) -> bool:
        """Whether a container's process exists."""
        found = self._known.get(f"{namespace}/{pod}")
        running = self._pods.get(found["metadata"]["uid"]) if found else None
        return running is not None and running.runs(container)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._working.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._working.discard(task)
        with contextlib.suppress(asyncio.CancelledError):
            if task.exception() is not None:
                # Better restarted by the supervisor, with the reason in the log, than working by half.
                self._done.set()
                raise task.exception() or RuntimeError


async def work(layout: Layout) -> None:
    """Run the agent of a devcluster."""
    async with Api(layout.inside_kubeconfig) as api:
        await Agent(api, layout).run()
