"""Where everything of a devcluster lies: files below its home, addresses inside its network, ports.

Every other module takes paths and addresses from here and from nowhere else.
"""

from __future__ import annotations

import ipaddress
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
"""The folder that holds the packages; children find their code through it."""

BRIDGE = "br0"
NETWORK = ipaddress.IPv4Network("10.64.0.0/16")
"""Nodes and pods; all of it lies on the bridge."""
ROOT_ADDRESS = "10.64.0.1"
"""The bridge itself: control plane, hub, and every pod's gateway."""
FIRST_POD_ADDRESS = ipaddress.IPv4Address("10.64.1.0")
SERVICE_NETWORK = ipaddress.IPv4Network("10.96.0.0/16")

API_PORT = 6443
WEBHOOK_PORT = 9443
KUBELET_PORT = 10250
HUB_PORT = 8090
GATEWAY_PORT = 8070
ETCD_PORT = 2379

API_URL = f"https://{ROOT_ADDRESS}:{API_PORT}"
HUB_URL = f"http://{ROOT_ADDRESS}:{HUB_PORT}"

MAX_NODES = 200
"""Node addresses end at 10.64.0.210, so that they can never meet the pods' addresses."""
MAX_SOCKET_PATH = 100
"""The kernel keeps 108 bytes for the path of a unix socket; this leaves room for a file name's change."""


def cache() -> Path:
    """The folder outside the tree that survives everything: ``$LLM_ROLLOUT_CACHE`` or below ``$XDG_CACHE_HOME``."""
    named = os.environ.get("LLM_ROLLOUT_CACHE")
    if named:
        return Path(named).expanduser().resolve()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser().resolve() / "llm-rollout"


def node_names(count: int) -> list[str]:
    """``node-1`` to ``node-<count>``."""
    return [f"node-{number}" for number in range(1, count + 1)]


def node_address(name: str) -> str:
    """The InternalIP of ``node-<i>``: 10.64.0.(10+i)."""
    return str(NETWORK.network_address + 10 + int(name.removeprefix("node-")))


def default_home() -> Path:
    """``$DEVCLUSTER_HOME``, else ``devcluster`` in the cache."""
    named = os.environ.get("DEVCLUSTER_HOME")
    return Path(named).expanduser().resolve() if named else cache() / "devcluster"


@dataclass(frozen=True)
class Layout:
    """The files of one devcluster, all below ``home``."""

    home: Path

    @property
    def kubeconfig(self) -> Path:
        """For people and programs on this machine: the API server by its relay on 127.0.0.1."""
        return self.home / "kubeconfig"

    @property
    def inside_kubeconfig(self) -> Path:
        """For programs in the cluster's own network."""
        return self.home / "inside" / "kubeconfig"

    @property
    def pki(self) -> Path:
        """PEM files: ``ca``, ``apiserver``, ``kubelet`` (all nodes), ``kubelet-client``, ``webhook/tls``."""
        return self.home / "pki"

    def certificate(self, name: str) -> Path:
        """The PEM certificate of that name, signed by ``ca``."""
        return self.pki / f"{name}.crt"

    def key(self, name: str) -> Path:
        """The PEM private key to the certificate of that name."""
        return self.pki / f"{name}.key"

    @property
    def logs(self) -> Path:
        """One ``<component>.log`` each."""
        return self.home / "logs"

    @property
    def state_file(self) -> Path:
        """What runs: see ``read_state``."""
        return self.home / "state.json"

    @property
    def control_socket(self) -> Path:
        """Where the supervisor takes commands; a unix socket, because those cross network namespaces."""
        return self.home / "control.sock"

    @property
    def fabric_file(self) -> Path:
        """The simulated fabric, read by the stand-ins of the RDMA tools."""
        return self.home / "fabric.json"

    @property
    def faults_file(self) -> Path:
        """A list of faults that the node agent applies to containers it starts."""
        return self.home / "faults.json"

    @property
    def failed_nodes_file(self) -> Path:
        """A list of node names that play dead: no heartbeat, no processes, no status."""
        return self.home / "failed-nodes.json"

    @property
    def etcd(self) -> Path:
        """The cluster's objects."""
        return self.home / "etcd"

    @property
    def volumes(self) -> Path:
        """The contents of claims, see ``volume``."""
        return self.home / "volumes"

    def volume(self, namespace: str, claim: str) -> Path:
        """The folder that pods see as this PersistentVolumeClaim, whatever its PersistentVolume says."""
        return self.volumes / namespace / claim

    @property
    def pods(self) -> Path:
        """The node agent's folder per pod UID."""
        return self.home / "pods"

    @property
    def hub(self) -> Path:
        """The hub's state."""
        return self.home / "hub"

    def read_state(self) -> dict[str, Any]:
        """``pid``, ``api_port``, ``hub_port`` (outside), ``nodes`` (names), ``gpus``, ``exposed``; empty when down.

        It is there before the first component starts.
        """
        state: dict[str, Any] = _read_json(self.state_file, {})
        return state

    def failed_nodes(self) -> set[str]:
        """The nodes that play dead now."""
        return set(_read_json(self.failed_nodes_file, []))


def _read_json(path: Path, missing: Any) -> Any:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return missing


def write_json(path: Path, value: Any) -> None:
    """Replace ``path`` in one step, so that a reader never sees half of it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(value, indent=2) + "\n")
    temporary.replace(path)
