"""What each node says about its ports, and what disagrees between nodes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Transport = Literal["rdma", "simulated", "tcp"]

_LANE_GBPS = {1: 2.5, 2: 5.0, 4: 10.0, 8: 10.0, 16: 14.0, 32: 25.0, 64: 50.0, 128: 100.0, 256: 200.0}
"""By the number in parentheses: older rdma-core prints "invalid speed (128)" for 100 Gb/s lanes."""
_FIELD = re.compile(r"^\s*(\w+):\s+(\S.*?)\s*$")


@dataclass(frozen=True)
class Port:
    """Port 1 of one device. None: not printed."""

    hca: str
    transport: Transport
    state: str
    rate_gbps: float | None
    link_layer: str
    mtu_bytes: int | None


@dataclass(frozen=True)
class Member:
    """One node that takes part: its name and ports, or why they could not be read."""

    node: str
    ports: Mapping[str, Port]
    error: str = ""


@dataclass(frozen=True)
class Finding:
    """Something wrong that needs no traffic to be seen. ``name`` is a node, or a device for a setting."""

    kind: Literal["node", "setting"]
    name: str
    detail: str
    severity: Literal["bad", "warn"]


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


def findings(members: Sequence[Member], hcas: Sequence[str]) -> list[Finding]:
    """Missing devices, ports that are not ACTIVE, and rates, link layers and MTUs that differ between nodes."""
    known = [member for member in members if not member.error]
    found = [finding for member in known for hca in hcas for finding in _of_port(member, hca)]
    for hca in hcas:
        active = {member.node: member.ports[hca] for member in known if _is_active(member, hca)}
        found += _differences(hca, active)
    return found


def transport(members: Sequence[Member], hcas: Sequence[str]) -> Transport:
    """The weakest transport of the ports in use. Without any port nothing is measured, so nothing is claimed."""
    used = {member.ports[hca].transport for member in members for hca in hcas if hca in member.ports}
    weakest: tuple[Transport, ...] = ("simulated", "tcp")
    return next((kind for kind in weakest if kind in used), "rdma")


def _port(hca: str, fields: Mapping[str, str]) -> Port:
    mtu = re.match(r"\d+", fields.get("active_mtu", ""))
    return Port(
        hca=hca,
        transport=_transport(fields.get("transport", "")),
        state=fields.get("state", "unknown").split(" ")[0].removeprefix("PORT_"),
        rate_gbps=_rate_gbps(fields),
        link_layer=fields.get("link_layer", "unknown"),
        mtu_bytes=int(mtu.group(0)) if mtu else None,
    )


def _transport(text: str) -> Transport:
    """RDMA only where the device says InfiniBand (RoCE says so too); iWARP and usNIC run over the IP stack."""
    if "SIMULATED" in text:
        return "simulated"
    return "rdma" if text.startswith("InfiniBand") else "tcp"


def _rate_gbps(fields: Mapping[str, str]) -> float | None:
    effective = re.match(r"[\d.]+", fields.get("effective_speed", ""))
    if effective:
        return float(effective.group(0))
    width = re.match(r"(\d+)X", fields.get("active_width", ""))
    code = re.search(r"\((\d+)\)", fields.get("active_speed", ""))
    lane = _LANE_GBPS.get(int(code.group(1))) if code else None
    return int(width.group(1)) * lane if width and lane else None


def _is_active(member: Member, hca: str) -> bool:
    return hca in member.ports and member.ports[hca].state == "ACTIVE"


def _of_port(member: Member, hca: str) -> list[Finding]:
    if hca not in member.ports:
        there = ", ".join(member.ports) or "none"
        return [Finding("node", member.node, f"{hca}: no such device; there is {there}", "bad")]
    if not _is_active(member, hca):
        state = member.ports[hca].state
        return [Finding("node", member.node, f"{hca}: port is {state}, not ACTIVE: cable or NIC", "bad")]
    return []


def _differences(hca: str, ports: Mapping[str, Port]) -> list[Finding]:
    found = []
    best_rate = max((port.rate_gbps or 0.0 for port in ports.values()), default=0.0)
    best_mtu = max((port.mtu_bytes or 0 for port in ports.values()), default=0)
    for node, port in ports.items():
        if port.rate_gbps is not None and port.rate_gbps < best_rate:
            detail = f"{hca}: port rate {port.rate_gbps:.4g} Gb/s, others {best_rate:.4g} Gb/s: cable or NIC"
            found.append(Finding("node", node, detail, "bad"))
        if port.mtu_bytes is not None and port.mtu_bytes < best_mtu:
            detail = f"{hca}: active MTU {port.mtu_bytes}, others {best_mtu}: MTU of its net device or switch port"
            found.append(Finding("node", node, detail, "warn"))
    layers = {port.link_layer for port in ports.values()}
    if len(layers) > 1:
        found.append(Finding("setting", hca, f"link layers differ: {', '.join(sorted(layers))}", "bad"))
    return found


def port_from_json(value: Mapping[str, Any]) -> Port:
    """The inverse of ``dataclasses.asdict``."""
    return Port(**value)
