"""The simulated fabric: what ``fabric.json`` says about ports and links, and the faults that it switches on.

``{"rate_gbps": 400, "hcas": ["mlx5_0"], "noise": 0.01, "seed": 7,
"nodes": {"node-3": {"mlx5_0": {"state": "DOWN", "gbps": 300, "usec": 9, "rate_gbps": 200, "mtu": 1024}}},
"links": [{"nodes": ["node-4", "node-5"], "hca": "mlx5_0", "gbps": 120, "usec": 15}]}``

A **port** (``nodes``; device ``*``: all of the node's) takes besides: ``tx_gbps`` and ``rx_gbps`` (bad in one
direction only), ``gdr_gbps`` (with ``--use_cuda`` only), ``link_layer``, ``fault`` (below), ``ipv4: false`` (its net
device has no address, so no GID maps one), ``gid_offset: 2`` (so many other GIDs stand first),
``counters: {"hw_counters/out_of_sequence": 40}`` (rise by so much with every bandwidth run).

A **link** is what lies between two nodes. Without ``hca`` it means all devices, without ``nodes`` all pairs: so
``{"hca": "mlx5_1", "gbps": 90}`` is the switch of a rail and ``{"gbps": 90}`` the whole fabric. It takes besides:
``one_way: true`` (only data from the first node to the second), ``under_load: true`` (only while another bandwidth run
is under way anywhere: lost flow control), ``probability: 0.01`` (of striking one run; drawn from ``seed``, the link and
the number of runs that the sender's port has seen), ``broken: true`` (the same as ``fault: timeout``), ``fault``.

**Faults**, each in the words of the original: ``no-device`` ``memlock`` ``oob`` ``crash`` (the server goes away before
the test) ``gid`` ``timeout`` (status 12) ``access`` (4) ``flush`` (5) ``mtu`` (messages above 1 KiB time out)
``gdr`` (memory of a GPU cannot be registered) ``hang`` (runs on for ever) ``killed`` (ends without a word).
A port in a ``state`` other than ACTIVE gives the port's fault by itself.
"""

from __future__ import annotations

import json
import os
import random
import socket
from collections.abc import Iterator, Mapping, Sequence
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
UNLIMITED_GBPS = 1e9

FAULTS = (
    "no-device", "memlock", "oob", "crash", "gid", "timeout", "access", "flush", "mtu", "gdr", "hang", "killed",
)  # fmt: skip


@dataclass(frozen=True)
class Port:
    """One port of one node as the file describes it; the limits are what it can send and receive."""

    hca: str
    rail: int
    state: str
    rate_gbps: float
    tx_gbps: float
    rx_gbps: float
    gdr_gbps: float
    usec: float
    mtu: int
    link_layer: str
    fault: str
    ipv4: bool
    gid_offset: int
    counters: Mapping[str, int]

    @property
    def active(self) -> bool:
        """Whether the port carries traffic."""
        return self.state == "ACTIVE"


@dataclass(frozen=True)
class Way:
    """One run's way: from the sender's port to the receiver's. ``number`` counts the sender's runs, ``loaded`` asks."""

    sender: str
    receiver: str
    hca: str
    number: int = 0
    loaded: bool = False


@dataclass(frozen=True)
class Fabric:
    """Ports and links. ``noise`` is the largest part that a measurement falls below the truth."""

    rate_gbps: float = 400.0
    hcas: Sequence[str] = ("mlx5_0",)
    links: Sequence[Mapping[str, Any]] = ()
    nodes: Mapping[str, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)
    noise: float = 0.01
    seed: int = 0

    def port(self, node: str, hca: str) -> Port | None:
        """The port of ``node``, None when the node has no such device."""
        of_node = self.nodes.get(node, {})
        given = {**of_node.get("*", {}), **of_node.get(hca, {})}
        if hca not in self.hcas or given.get("fault") == "no-device":
            return None
        rate = float(given.get("rate_gbps", self.rate_gbps))
        both_ways = min(rate * WIRE_EFFICIENCY, float(given.get("gbps", rate)))
        return Port(
            hca=hca,
            rail=list(self.hcas).index(hca),
            state=str(given.get("state", "ACTIVE")).upper().removeprefix("PORT_"),
            rate_gbps=rate,
            tx_gbps=min(both_ways, float(given.get("tx_gbps", rate))),
            rx_gbps=min(both_ways, float(given.get("rx_gbps", rate))),
            gdr_gbps=float(given.get("gdr_gbps", UNLIMITED_GBPS)),
            usec=float(given.get("usec", DEFAULT_USEC)),
            mtu=int(given.get("mtu", 4096)),
            link_layer=str(given.get("link_layer", "Ethernet")),
            fault=known_fault(given),
            ipv4=bool(given.get("ipv4", True)),
            gid_offset=int(given.get("gid_offset", 0)),
            counters=given.get("counters", {}),
        )

    def gbps(self, sender: Port, receiver: Port, way: Way) -> float:
        """One noisy bandwidth in Gb/s (10^9 bits)."""
        limits = [float(link["gbps"]) for link in self._links(way) if "gbps" in link]
        truth = min(sender.tx_gbps, receiver.rx_gbps, *limits)
        return truth * (1 - random.uniform(0, self.noise))

    def usec(self, sender: Port, receiver: Port, way: Way) -> float:
        """One noisy latency: half a round trip in microseconds."""
        given = [float(link["usec"]) for link in self._links(way) if "usec" in link]
        return max(sender.usec, receiver.usec, *given) * (1 + random.uniform(0, self.noise))

    def fault(self, way: Way) -> str:
        """The fault between two ports, "" when there is none."""
        return next((fault for link in self._links(way) if (fault := known_fault(link))), "")

    def depends_on_load(self, way: Way) -> bool:
        """Whether anything on this way strikes only under load."""
        return any(link.get("under_load") for link in self._on_way(way))

    def _links(self, way: Way) -> list[Mapping[str, Any]]:
        """What strikes this run."""
        return [
            link
            for link in self._on_way(way)
            if (way.loaded or not link.get("under_load")) and self._strikes(link, way)
        ]

    def _on_way(self, way: Way) -> Iterator[Mapping[str, Any]]:
        for link in self.links:
            nodes = link.get("nodes")
            ends = [way.sender, way.receiver]
            between = not nodes or list(nodes) == ends or (not link.get("one_way") and sorted(nodes) == sorted(ends))
            if between and (link.get("hca") or way.hca) == way.hca:
                yield link

    def _strikes(self, link: Mapping[str, Any], way: Way) -> bool:
        drawn = random.Random(f"{self.seed} {way.sender} {way.receiver} {way.hca} {way.number}")
        return drawn.random() < float(link.get("probability", 1.0))


def known_fault(given: Mapping[str, Any]) -> str:
    """The fault that a port or link asks for; SystemExit for a word that is none."""
    fault = str(given.get("fault") or ("timeout" if given.get("broken") else ""))
    if fault and fault not in FAULTS:
        raise SystemExit(f"fabric file: fault {fault!r} is none of {', '.join(FAULTS)}")
    return fault


def load() -> Fabric:
    """The fabric of ``DEVCLUSTER_FABRIC`` (else of the usual place); without a file nothing is wrong with it."""
    path = fabric_path()
    return Fabric(**json.loads(path.read_text())) if path.exists() else Fabric()


def fabric_path() -> Path:
    """Where the fabric file lies."""
    return Path(os.environ.get("DEVCLUSTER_FABRIC", DEFAULT_PATH))


def own_node() -> str:
    """The node this process runs on."""
    return os.environ.get("DEVCLUSTER_NODE") or socket.gethostname()


def time_scale() -> float:
    """By how much simulated durations are shortened; 1 is real time."""
    return float(os.environ.get("DEVCLUSTER_TIME_SCALE", "1"))
