"""What each node says about its ports and about the pod that looks at them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from llm_rollout.fabric.pod import NOT_READ, Pod, pod_from_json
from llm_rollout.fabric.reading.ibv_devinfo import SOFT_VENDOR_ID, rate_gbps

Transport = Literal["rdma", "simulated", "tcp"]

_FIELD = re.compile(r"^\s*(\w+):\s+(\S.*?)\s*$")

ROCE_V2 = 2


@dataclass(frozen=True)
class Gid:
    """One entry of a port's GID table: an address under which a queue pair can be reached.

    ``roce_version`` is 0 on InfiniBand; ``ipv4`` and ``net_device`` are "" where there is none.
    """

    index: int
    roce_version: int
    ipv4: str
    net_device: str

    @property
    def is_usual(self) -> bool:
        """Routable RoCE: version 2 with an IPv4 address, what NCCL chooses by itself since 2.21."""
        return self.roce_version == ROCE_V2 and bool(self.ipv4)


@dataclass(frozen=True)
class Port:
    """Port 1 of one device. None: not printed. No ``gids``: the table could not be read."""

    hca: str
    transport: Transport
    state: str
    rate_gbps: float | None
    link_layer: str
    mtu_bytes: int | None
    gids: tuple[Gid, ...] = ()

    def gid_index(self, interfaces: Sequence[str]) -> int | None:
        """The entry to measure with: RoCE v2 with IPv4, of one of the pod's own interfaces where there is one.

        None where nothing is known or needed: the tools then choose by themselves.
        """
        usual = [gid for gid in self.gids if gid.is_usual]
        own = [gid for gid in usual if gid.net_device in interfaces]
        return (own or usual)[0].index if usual else None


@dataclass(frozen=True)
class Member:
    """One node that takes part: its name, its ports or why they could not be read, and what its pod was given."""

    node: str
    ports: Mapping[str, Port]
    error: str = ""
    pod: Pod = NOT_READ


@dataclass(frozen=True)
class Finding:
    """Something wrong that needs no matrix of measurements to be seen.

    ``name`` is a node for ``node`` and ``nic`` (whose detail begins with the device), and what is set for a
    ``setting``. ``bad`` and ``warn`` decide the verdict, a ``note`` is evidence only. ``remedy`` is in terms of what
    the user sets.
    """

    kind: Literal["node", "nic", "setting"]
    name: str
    detail: str
    severity: Literal["bad", "warn", "note"]
    remedy: str = ""


def parse(text: str) -> dict[str, Port]:
    """The devices of ``ibv_devinfo -v`` by name, each with its first port."""
    ports: dict[str, Port] = {}
    for block in re.split(r"^hca_id:", text, flags=re.MULTILINE)[1:]:
        fields: dict[str, str] = {}
        for line in block.splitlines()[1:]:
            if found := _FIELD.match(line):
                fields.setdefault(found.group(1), found.group(2))
        hca = block.splitlines()[0].strip()
        ports[hca] = _port(hca, fields)
    return ports


def transport(members: Sequence[Member], hcas: Sequence[str]) -> Transport:
    """The weakest transport of the ports in use. Without any port nothing is measured, so nothing is claimed."""
    used = {member.ports[hca].transport for member in members for hca in hcas if hca in member.ports}
    weakest: tuple[Transport, ...] = ("simulated", "tcp")
    return next((kind for kind in weakest if kind in used), "rdma")


def _port(hca: str, fields: Mapping[str, str]) -> Port:
    mtu = re.match(r"\d+", fields.get("active_mtu", ""))
    return Port(
        hca=hca,
        transport=_transport(hca, fields),
        state=fields.get("state", "unknown").split(" ")[0].removeprefix("PORT_"),
        rate_gbps=rate_gbps(fields),
        link_layer=fields.get("link_layer", "unknown"),
        mtu_bytes=int(mtu.group(0)) if mtu else None,
    )


def _transport(hca: str, fields: Mapping[str, str]) -> Transport:
    """RDMA only where a NIC says InfiniBand (RoCE says so too).

    iWARP and usNIC run over the IP stack; soft-RoCE says InfiniBand and runs in the kernel's network stack.
    """
    text = fields.get("transport", "")
    if "SIMULATED" in text:
        return "simulated"
    is_soft = hca.startswith("rxe") or fields.get("vendor_id", "").lower() == SOFT_VENDOR_ID
    return "rdma" if text.startswith("InfiniBand") and not is_soft else "tcp"


def member_from_json(value: Mapping[str, Any]) -> Member:
    """The inverse of ``dataclasses.asdict``; KeyError, TypeError or ValueError for anything else."""
    ports = {str(hca): _port_from_json(port) for hca, port in dict(value["ports"]).items()}
    return Member(str(value["node"]), ports, str(value["error"]), pod_from_json(value.get("pod", {})))


def _port_from_json(value: Mapping[str, Any]) -> Port:
    return Port(**{**value, "gids": tuple(Gid(**gid) for gid in value.get("gids", ()))})
