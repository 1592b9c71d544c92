"""Pods of a running devcluster, as a test makes, watches and removes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
from kubernetes import client

NAMESPACE = "default"
WAIT_SECONDS = 25
"""Generous: the machine may be busy, and what is waited for takes a second or two."""


@dataclass
class Pods:
    """Makes pods of one container, ``main``, and asks about them."""

    cluster: Any
    core: client.CoreV1Api
    made: list[str] = field(default_factory=list)

    def create(self, name: str, script: str, *, metadata: Any = None, pod: Any = None, **container: Any) -> str:
        """A pod whose container runs a shell script with a folder /data of its own."""
        main = {"name": "main", "image": "any", "command": ["sh", "-c", script], **container}
        main["volumeMounts"] = [{"name": "data", "mountPath": "/data"}, *container.get("volumeMounts", ())]
        spec: dict[str, Any] = {"containers": [main], "terminationGracePeriodSeconds": 0, **(pod or {})}
        spec["volumes"] = [{"name": "data", "emptyDir": {}}, *spec.get("volumes", ())]
        self.core.create_namespaced_pod(NAMESPACE, {"metadata": {"name": name, **(metadata or {})}, "spec": spec})
        self.made.append(name)
        return name

    def get(self, name: str) -> Any:
        return self.core.read_namespaced_pod(name, NAMESPACE)

    def main(self, name: str) -> Any:
        """The status of its container; None before there is one."""
        return next(iter(self.get(name).status.container_statuses or ()), None)

    def exists(self, name: str) -> bool:
        selector = f"metadata.name={name}"
        return bool(self.core.list_namespaced_pod(NAMESPACE, field_selector=selector).items)

    def log(self, name: str, **options: Any) -> str:
        # The client would make text of bytes with str().
        reply = self.core.read_namespaced_pod_log(name, NAMESPACE, _preload_content=False, **options)
        return str(reply.data.decode())

    def events(self, name: str, reason: str) -> list[str]:
        """The messages of its events of this reason."""
        selector = f"involvedObject.name={name},reason={reason}"
        found = self.core.list_namespaced_event(NAMESPACE, field_selector=selector).items
        return [item.message for item in found]

    def data(self, name: str) -> Path:
        """Its folder /data, as it lies on this machine."""
        return Path(self.cluster.home / "pods" / self.get(name).metadata.uid / "volumes" / "data")

    def delete(self, name: str, seconds: int = 0) -> None:
        self.core.delete_namespaced_pod(name, NAMESPACE, body={"gracePeriodSeconds": seconds})

    def wait(self, check: Callable[[], Any], what: str, seconds: float = WAIT_SECONDS) -> Any:
        return self.cluster.wait(check, seconds, what)

    def until_runs(self, name: str, restarts: int = 0) -> Any:
        def runs() -> Any:
            main = self.main(name)
            return main if main and main.state.running and main.restart_count >= restarts else None

        return self.wait(runs, f"{name} runs after {restarts} restarts")

    def until_waits(self, name: str, reason: str) -> Any:
        def waits() -> Any:
            main = self.main(name)
            waiting = main.state.waiting if main else None
            return waiting if waiting and waiting.reason == reason else None

        return self.wait(waits, f"{name} waits because of {reason}")

    def until_phase(self, name: str, phase: str) -> None:
        self.wait(lambda: self.get(name).status.phase == phase, f"{name} is {phase}")

    def until_ready(self, name: str, *, ready: bool = True) -> None:
        def condition() -> bool:
            found = {item.type: item.status for item in self.get(name).status.conditions or ()}
            return found.get("Ready") == str(ready)

        self.wait(condition, f"{name} is {'ready' if ready else 'not ready'}")

    def processes(self, *argv: str) -> list[psutil.Process]:
        """The processes of the whole devcluster that were called so."""
        return [process for process in self.cluster.processes() if _cmdline(process) == list(argv)]


def _cmdline(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []


@pytest.fixture
def api(cluster: Any) -> Iterator[client.ApiClient]:
    with cluster.api() as found:
        yield found


@pytest.fixture
def core(api: client.ApiClient) -> client.CoreV1Api:
    return client.CoreV1Api(api)


@pytest.fixture
def pods(cluster: Any, core: client.CoreV1Api) -> Iterator[Pods]:
    found = Pods(cluster, core)
    yield found
    for name in filter(found.exists, found.made):
        found.delete(name)
    found.wait(lambda: not any(map(found.exists, found.made)), "the test's pods are gone")
    assert "Traceback" not in (cluster.home / "logs" / "node-agent.log").read_text()


@pytest.fixture
def fault(cluster: Any) -> Iterator[Callable[..., str]]:
    """Switches a fault on and says its id; afterwards all are off."""
    yield lambda *arguments: cluster.run("fault", "add", *arguments)
    cluster.run("fault", "clear")
