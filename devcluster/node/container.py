"""Keeps one container of a pod as its pod asks: start, probes, back-off, restart."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import httpx

from devcluster.api import Api
from devcluster.layout import Layout
from devcluster.node import faults, mishaps, process, states
from devcluster.node.environment import ConfigError, Resolver, VolumeError, argv
from devcluster.node.faults import Faults
from devcluster.node.log_files import times_of
from devcluster.node.network import PodNetwork
from devcluster.node.probes import Prober
from devcluster.node.process import Process, StartError
from devcluster.node.sandbox import Mount, Sandbox
from devcluster.node.states import ContainerState

Object = Mapping[str, Any]

FIRST_BACKOFF_SECONDS = float(os.environ.get("DEVCLUSTER_BACKOFF_SECONDS") or 1)
"""A kubelet's is 10 s; shorter here, so that a crash loop shows within seconds."""
LONGEST_BACKOFF_SECONDS = 300.0
HEALTHY_SECONDS = 600.0
"""A container that has run so long starts its back-off anew."""
CONFIG_RETRY_SECONDS = 1.0
_MESSAGE_BYTES = 4096


class PodView(Protocol):
    """What a container needs of its pod."""

    api: Api
    layout: Layout
    pod: Object
    faults: Faults

    @property
    def ending(self) -> bool:
        """Whether nothing of it is to be started again."""

    @property
    def hosts(self) -> Path:
        """The hosts file of its namespace."""

    def changed(self) -> None:
        """The status has to be reported."""

    def event(self, kind: str, reason: str, message: str, container: str = "") -> None:
        """Tell people."""

    def evict(self, message: str) -> None:
        """End the whole pod for good, for its node needs the room."""


class Container:
    """One container over all its restarts."""

    def __init__(self, owner: PodView, definition: Object, state: ContainerState, network: PodNetwork) -> None:
        self._owner = owner
        self._definition = definition
        self.state = state
        self._network = network
        self._name: str = definition["name"]
        self._folder: Path = owner.layout.pods / str(owner.pod["metadata"]["uid"]) / self._name
        self._folder.mkdir(parents=True, exist_ok=True)
        self.process: Process | None = None

    async def run(self, again: Callable[[int], bool]) -> None:
        """Run until it has ended for good; ``again`` says whether an exit code asks for a restart."""
        delay = FIRST_BACKOFF_SECONDS
        while True:
            began = time.monotonic()
            code = await self._once()
            if self._owner.ending or not again(code):
                self.state.finished = True
                self._owner.changed()
                return
            delay = FIRST_BACKOFF_SECONDS if time.monotonic() - began > HEALTHY_SECONDS else delay
            metadata = self._owner.pod["metadata"]
            pod = f"{metadata['name']}_{metadata['namespace']}({metadata['uid']})"
            message = f"Back-off restarting failed container {self._name} in pod {pod}"
            self._owner.event("Warning", "BackOff", message, self._name)
            await asyncio.sleep(delay)
            if self._owner.ending:
                return
            delay = min(delay * 2, LONGEST_BACKOFF_SECONDS)
            self.state.last_state = self.state.state
            self.state.restarts += 1

    @property
    def runs(self) -> bool:
        """Whether its process exists."""
        return self.process is not None and self.process.outer.returncode is None

    async def stop(self, grace_seconds: float) -> None:
        """preStop, SIGTERM, grace, SIGKILL."""
        if self.process is None or not self.runs:
            return
        self._owner.event("Normal", "Killing", f"Stopping container {self._name}", self._name)
        began = time.monotonic()
        hook = (self._definition.get("lifecycle") or {}).get("preStop")
        if hook:
            await self._hook(hook, grace_seconds)
        await self.process.end(grace_seconds - (time.monotonic() - began))

    async def _hook(self, hook: Object, seconds: float) -> None:
        assert self.process is not None  # noqa: S101 - only called for a running container
        if "sleep" in hook:
            await asyncio.sleep(min(float(hook["sleep"]["seconds"]), seconds))
            return
        prober = Prober(self._definition, self._network.address, self.process.run_inside)
        await prober.passes({**hook, "timeoutSeconds": max(seconds, 1)})

    async def _once(self) -> int:
        """One run from image to exit code."""
        await self._pull()
        running = await self._start()
        self.process = running
        self.state.run = secrets.token_hex(16)
        self.state.state = states.running(running.started)
        self._owner.event("Normal", "Created", "Container created", self._name)
        self._owner.event("Normal", "Started", "Container started", self._name)
        self._owner.changed()
        beside = [asyncio.create_task(self._probe(running)), asyncio.create_task(self._strike(running))]
        try:
            code = await running.wait()
        finally:
            for task in beside:
                task.cancel()
        self.state.started = self.state.ready = False
        message = self._last_words(code) if running.executed else process.tail(self._log())
        reason = running.end_reason if running.executed else "StartError"
        self.state.state = states.terminated(code, running.started, self.state.run, message, reason)
        self._owner.changed()
        return code

    async def _pull(self) -> None:
        image, tell, delay = self._definition["image"], self._tell, FIRST_BACKOFF_SECONDS
        while fault := self._struck(mishaps.PULLS):
            error = mishaps.refused_pull(fault["kind"], image)
            tell("Normal", "Pulling", f'Pulling image "{image}"')
            tell("Warning", "Failed", f'Failed to pull image "{image}": {error}')
            tell("Warning", "Failed", "Error: ErrImagePull")
            self._wait("ErrImagePull", error)
            await asyncio.sleep(delay / 2)
            tell("Normal", "BackOff", f'Back-off pulling image "{image}"')
            tell("Warning", "Failed", "Error: ImagePullBackOff")
            self._wait("ImagePullBackOff", f'Back-off pulling image "{image}": ErrImagePull: {error}')
            await asyncio.sleep(delay / 2)
            delay = min(delay * 2, LONGEST_BACKOFF_SECONDS)
        if fault := self._struck(("slow_pull",)):
            tell("Normal", "Pulling", f'Pulling image "{image}"')
            await asyncio.sleep(fault["seconds"])
            tell("Normal", "Pulled", mishaps.pulled(image, fault["seconds"]))
            return
        tell("Normal", "Pulled", f'Container image "{image}" already present on machine')

    async def _start(self) -> Process:
        """Start; a mistake in the pod's configuration is shown and tried again until somebody mends it."""
        while True:
            try:
                return await self._try_start()
            except VolumeError as error:
                # A kubelet mounts before it looks at any container, so those stay as they are.
                self._tell("Warning", "FailedMount", str(error))
                await asyncio.sleep(CONFIG_RETRY_SECONDS)
            except (ConfigError, StartError, httpx.HTTPError, OSError) as error:
                reason = "CreateContainerConfigError" if isinstance(error, ConfigError) else "CreateContainerError"
                if self.state.state.get("waiting", {}).get("message") != str(error):
                    self._tell("Warning", "Failed", f"Error: {error}")
                    self._wait(reason, str(error))
                await asyncio.sleep(CONFIG_RETRY_SECONDS)

    async def _try_start(self) -> Process:
        resolver = Resolver(self._owner.api, self._owner.layout, self._owner.pod, self._network.address)
        env = await resolver.environment(self._definition)
        command = argv(self._definition, env)
        mounts = [*await resolver.mounts(self._definition), self._termination_log()]
        fault = self._struck(faults.IN_CONTAINER)
        workdir = self._definition.get("workingDir") or "/"
        sandbox = Sandbox(self._owner.layout, resolver.hostname, self._owner.hosts, mounts, workdir)
        self._rotate()
        return await process.start(sandbox, self._network, faults.command(fault, command), env, self._log())

    async def _strike(self, running: Process) -> None:
        """End a running container from outside, where a fault asks for it."""
        fault = self._struck(mishaps.SUDDEN)
        if fault is None:
            return
        await mishaps.moment(fault, self._log())
        if fault["kind"] == "evict":
            self._owner.evict(mishaps.eviction(self._name))
            return
        running.end_reason = "OOMKilled" if fault["kind"] == "oom" else ""
        running.signal(signal.SIGKILL)

    def _struck(self, kinds: Sequence[str]) -> faults.Fault | None:
        return self._owner.faults.strike(self._owner.pod["metadata"]["name"], self._name, kinds)

    def _tell(self, kind: str, reason: str, message: str) -> None:
        self._owner.event(kind, reason, message, self._name)

    def _wait(self, reason: str, message: str) -> None:
        self.state.state = states.waiting(reason, message)
        self._owner.changed()

    def _termination_log(self) -> Mount:
        file = self._folder / "termination-log"
        file.write_text("")
        return Mount(file, self._definition.get("terminationMessagePath") or "/dev/termination-log")

    def _log(self) -> Path:
        return self._folder / f"{self.state.restarts}.log"

    def _rotate(self) -> None:
        """Keep this run's log and the one before it."""
        old = self._folder / f"{self.state.restarts - 2}.log"
        old.unlink(missing_ok=True)
        times_of(old).unlink(missing_ok=True)

    def _last_words(self, code: int) -> str:
        message = (self._folder / "termination-log").read_text(errors="replace")[-_MESSAGE_BYTES:]
        fall_back = self._definition.get("terminationMessagePolicy") == "FallbackToLogsOnError"
        if not message and code and fall_back:
            message = self._log().read_text(errors="replace")[-_MESSAGE_BYTES:]
        return message

    async def _probe(self, running: Process) -> None:
        definition = self._definition
        prober = Prober(definition, self._network.address, running.run_inside)
        if probe := definition.get("startupProbe"):
            await asyncio.sleep(float(probe.get("initialDelaySeconds") or 0))
            failure = await self._started(prober, probe)
            if failure is not None:
                await self._kill(running, "startup", failure)
                return
        self.state.started = True
        self._set_ready(ready="readinessProbe" not in definition)
        await asyncio.gather(self._watch_readiness(prober), self._watch_liveness(prober, running))

    async def _started(self, prober: Prober, probe: Object) -> str | None:
        """None when the container has started, else why its startup probe has lost patience."""
        if fault := self._struck(("startup_probe",)):
            await mishaps.moment(fault, self._log())
            return (await prober.passes(probe))[1]
        return await prober.startup(probe, lambda message: self._unhealthy("Startup", message))

    async def _watch_readiness(self, prober: Prober) -> None:
        if not (probe := self._definition.get("readinessProbe")):
            return
        await asyncio.sleep(float(probe.get("initialDelaySeconds") or 0))
        while True:
            message = await prober.until_changed(probe, passing=self.state.ready)
            if self.state.ready:
                self._unhealthy("Readiness", message)
            self._set_ready(ready=not self.state.ready)
            await asyncio.sleep(float(probe.get("periodSeconds") or 10))

    async def _watch_liveness(self, prober: Prober, running: Process) -> None:
        if probe := self._definition.get("livenessProbe"):
            await asyncio.sleep(float(probe.get("initialDelaySeconds") or 0))
            message = await prober.until_changed(probe, passing=True)
            await self._kill(running, "liveness", message)

    async def _kill(self, running: Process, kind: str, message: str) -> None:
        self._unhealthy(kind.capitalize(), message)
        text = f"Container {self._name} failed {kind} probe, will be restarted"
        self._owner.event("Normal", "Killing", text, self._name)
        grace = float(self._owner.pod["spec"].get("terminationGracePeriodSeconds", 30))
        await asyncio.shield(asyncio.create_task(running.end(grace)))

    def _unhealthy(self, kind: str, message: str) -> None:
        self._owner.event("Warning", "Unhealthy", f"{kind} probe failed: {message}", self._name)

    def _set_ready(self, *, ready: bool) -> None:
        if self.state.ready is not ready:
            self.state.ready = ready
        self._owner.changed()


def forget(layout: Layout, uid: str) -> None:
    """Remove everything a pod left on this machine."""
    shutil.rmtree(layout.pods / uid, ignore_errors=True)
