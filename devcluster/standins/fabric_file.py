"""The simulated fabric: what ``fabric.json`` says about ports and links.

``{"rate_gbps": 400, "hcas": ["mlx5_0"], "noise": 0.01,
"links": [{"nodes": ["node-4", "node-5"], "hca": "mlx5_0", "gbps": 120, "usec": 15, "broken": false}],
"nodes": {"node-3": {"mlx5_0": {"state": "DOWN", "gbps": 300, "usec": 9, "rate_gbps": 200, "mtu": 1024}}}}``
"""

from __future__ import annotations

import json
import os
import random
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MARK = "SIMULATED (devcluster)"
BANNER = f"{MARK}: a stand-in on a simulated fabric, no RDMA hardware is involved"
"""The first line of every stand-in, so that its numbers are never taken for measurements of hardware."""

DEFAULT_PATH = "/etc/devcluster/fabric.json"
DEFAULT_USEC = 1.9
"""Half a round trip of 8 bytes through one switch on 100-400 Gb/s hardware: 1.6 to 2 microseconds."""
WIRE_EFFICIENCY = 0.98
"""What 1 MiB writes reach of the port rate on healthy hardware: 0.95 to 0.98."""


@dataclass(frozen=True)
class Port:
    """One port of one node as the file describes it; ``limit_gbps`` is what it can carry."""

    hca: str
    state: str
    rate_gbps: float
    limit_gbps: float
    usec: float
    mtu: int

    @property
    def active(self) -> bool:
        """Whether the port carries traffic."""
        return self.state == "ACTIVE"


@dataclass(frozen=True)
class Fabric:
    """Ports and links. ``noise`` is the largest part that a measurement falls below the truth."""

    rate_gbps: float = 400.0
    hcas: Sequence[str] = ("mlx5_0",)
    links: Sequence[Mapping[str, Any]] = ()
    nodes: Mapping[str, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)
    noise: float = 0.01

    def port(self, node: str, hca: str) -> Port | None:
        """The port of ``node``, None when the node has no such device."""
        if hca not in self.hcas:
            return None
        given = self.nodes.get(node, {}).get(hca, {})
        rate = float(given.get("rate_gbps", self.rate_gbps))
        return Port(
            hca=hca,
            state=str(given.get("state", "ACTIVE")).upper().removeprefix("PORT_"),
            rate_gbps=rate,
            limit_gbps=min(rate * WIRE_EFFICIENCY, float(given.get("gbps", rate))),
            usec=float(given.get("usec", DEFAULT_USEC)),
            mtu=int(given.get("mtu", 4096)),
        )

    def gbps(self, sender: Port, receiver: Port, nodes: tuple[str, str]) -> float:
        """One noisy bandwidth of ``nodes`` in Gb/s (10^9 bits)."""
        limits = [float(link["gbps"]) for link in self._links(sender.hca, nodes) if "gbps" in link]
        truth = min(sender.limit_gbps, receiver.limit_gbps, *limits)
        return truth * (1 - random.uniform(0, self.noise))

    def usec(self, sender: Port, receiver: Port, nodes: tuple[str, str]) -> float:
        """One noisy latency of ``nodes``: half a round trip in microseconds."""
        given = [float(link["usec"]) for link in self._links(sender.hca, nodes) if "usec" in link]
        return max(sender.usec, receiver.usec, *given) * (1 + random.uniform(0, self.noise))

    def broken(self, hca: str, nodes: tuple[str, str]) -> bool:
        """Whether nothing gets through between ``nodes`` on this device."""
        return any(link.get("broken") for link in self._links(hca, nodes))

    def _links(self, hca: str, nodes: tuple[str, str]) -> list[Mapping[str, Any]]:
        return [link for link in self.links if set(link["nodes"]) == set(nodes) and (link.get("hca") or hca) == hca]


def load() -> Fabric:
    """The fabric of ``DEVCLUSTER_FABRIC`` (else of the usual place); without a file nothing is wrong with it."""
    path = Path(os.environ.get("DEVCLUSTER_FABRIC", DEFAULT_PATH))
    return Fabric(**json.loads(path.read_text())) if path.exists() else Fabric()


def own_node() -> str:
    """The node this process runs on."""
    return os.environ.get("DEVCLUSTER_NODE") or socket.gethostname()


def time_scale() -> float:
    """By how much simulated durations are shortened; 1 is real time."""
    return float(os.environ.get("DEVCLUSTER_TIME_SCALE", "1"))
