"""What the kernel says about RDMA ports in files: GID tables and error counters.

Source: Documentation/ABI/stable/sysfs-class-infiniband of Linux.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from llm_rollout.fabric.inventory import Gid, Port

Counters = dict[str, dict[str, int]]
"""Values by device and counter."""

DEFAULT = Path("/sys/class/infiniband")
ERROR_COUNTERS = (
    "counters/symbol_error",
    "counters/link_downed",
    "counters/link_error_recovery",
    "counters/local_link_integrity_errors",
    "counters/port_rcv_errors",
    "counters/port_xmit_discards",
    "hw_counters/out_of_sequence",
    "hw_counters/packet_seq_err",
    "hw_counters/local_ack_timeout_err",
    "hw_counters/rnr_nak_retry_err",
    "hw_counters/rx_icrc_encapsulated",
    "hw_counters/np_cnp_sent",
    "hw_counters/rp_cnp_handled",
)
"""Those that rise when packets are damaged, lost or held back. They count for the NIC, whoever uses it."""
_NO_ADDRESS = "0000:0000:0000:0000:0000:0000:0000:0000"


def with_gids(ports: Mapping[str, Port], root: Path) -> dict[str, Port]:
    """The ports with their GID tables."""
    return {hca: replace(port, gids=_gids(root / hca / "ports/1")) for hca, port in ports.items()}


def counters(hcas: Iterable[str], root: Path) -> Counters:
    """The error counters that this kernel and driver have; none where they cannot be read."""
    return {hca: _counters(root / hca / "ports/1") for hca in hcas}


def risen(before: Counters, after: Counters) -> Counters:
    """By how much each counter has risen; those that have not, and those not read both times, are left out."""
    rises = {hca: _rises(before.get(hca, {}), values) for hca, values in after.items()}
    return {hca: of_port for hca, of_port in rises.items() if of_port}


def _rises(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, int]:
    return {name: after[name] - was for name, was in before.items() if after.get(name, was) > was}


def _counters(port: Path) -> dict[str, int]:
    read = ((name, _line(port / name)) for name in ERROR_COUNTERS)
    return {name.partition("/")[2]: int(value) for name, value in read if value.isdigit()}


def _gids(port: Path) -> tuple[Gid, ...]:
    """The entries in use. InfiniBand and version 1 share a name; only RoCE has a net device."""
    folder = port / "gids"
    indexes = sorted(int(entry.name) for entry in folder.iterdir()) if folder.is_dir() else []
    read = (_gid(port, index) for index in indexes)
    return tuple(gid for gid in read if gid is not None)


def _gid(port: Path, index: int) -> Gid | None:
    address, kind = _line(port / f"gids/{index}"), _line(port / f"gid_attrs/types/{index}")
    if address in {"", _NO_ADDRESS} or not kind:
        return None
    net_device = _line(port / f"gid_attrs/ndevs/{index}")
    version = 2 if kind == "RoCE v2" else int(bool(net_device))
    mapped = ipaddress.IPv6Address(address).ipv4_mapped
    return Gid(index, version, str(mapped) if mapped else "", net_device)


def _line(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
