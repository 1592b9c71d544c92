"""The GID table of a simulated port, as the kernel fills it: link-local first, then what IPv4 brings, v1 before v2."""

from __future__ import annotations

import re
from dataclasses import dataclass

from devcluster.standins.fabric_file import Port

ZERO = "0000:0000:0000:0000:0000:0000:0000:0000"


@dataclass(frozen=True)
class Gid:
    """One entry. ``ipv4`` is "" for one that maps no address, ``version`` 1 or 2 of RoCE, 0 on InfiniBand."""

    index: int
    gid: str
    ipv4: str
    version: int
    net_device: str

    @property
    def kind(self) -> str:
        """As ``gid_attrs/types`` of the kernel says it."""
        return {0: "IB/RoCE v1", 1: "IB/RoCE v1", 2: "RoCE v2"}[self.version]


def table(node: str, port: Port) -> list[Gid]:
    """All entries of one port."""
    rail = port.rail
    number = int((re.findall(r"\d+", node) or ["0"])[-1]) % 240
    local = f"fe80:0000:0000:0000:0000:00ff:fe00:{rail:02x}{number:02x}"
    if port.link_layer == "InfiniBand":
        return [Gid(0, local, "", 0, "")]
    mapped = f"0000:0000:0000:0000:0000:ffff:c0a8:{100 + rail:02x}{10 + number:02x}"
    address = f"192.168.{100 + rail}.{10 + number}"
    entries = [(local, "", 1 + place % 2) for place in range(2 + port.gid_offset)]
    entries += [(mapped, address, 1), (mapped, address, 2)] if port.ipv4 else []
    return [Gid(index, gid, ipv4, version, f"net{rail + 1}") for index, (gid, ipv4, version) in enumerate(entries)]


def chosen(entries: list[Gid], index: int | None) -> Gid:
    """The entry that a tool uses: ``-x``, else RoCE v2 with IPv4, else the first. An empty place is all zeros."""
    if index is None:
        return next((entry for entry in entries if entry.version == 2 and entry.ipv4), entries[0])  # noqa: PLR2004
    return next((entry for entry in entries if entry.index == index), Gid(index, ZERO, "", 1, ""))
