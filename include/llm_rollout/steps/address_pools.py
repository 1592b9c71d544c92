"""How many addresses whereabouts has left for a network attachment. Pure.

Whereabouts keeps one IPPool for each range, named after it, with the addresses in use by their offset in the range
(k8snetworkplumbingwg/whereabouts, ``doc/crds`` and ``README.md``). A pool appears with the first address.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llm_rollout.ports import Manifest


@dataclass(frozen=True)
class Pool:
    """One range of one attachment."""

    name: str
    """Of its IPPool."""
    base: int
    first: int
    last: int
    excluded: int
    """Addresses between first and last that are never given out."""

    def free(self, pools: Sequence[Manifest]) -> int:
        """Addresses that nobody has."""
        taken = {
            int(offset)
            for pool in pools
            if pool["metadata"]["name"] == self.name
            for offset in (pool.get("spec", {}).get("allocations") or {})
        }
        used = sum(self.first <= self.base + offset <= self.last for offset in taken)
        return self.last - self.first + 1 - self.excluded - used


def pools_of(attachment: Manifest) -> Iterator[Pool]:
    """The ranges from which an attachment gives addresses; none where it does not use whereabouts.

    Raises:
        ValueError: Its configuration cannot be understood, so nothing can be told about it.
    """
    config = json.loads(attachment.get("spec", {}).get("config") or "{}")
    plugins = config.get("plugins") or [config]
    for ipam in (plugin.get("ipam") or {} for plugin in plugins):
        if ipam.get("type") == "whereabouts":
            ranges = [ipam] if ipam.get("range") else []
            yield from (_pool(one, ipam) for one in [*ranges, *ipam.get("ipRanges", [])])


def _pool(one: Mapping[str, Any], ipam: Mapping[str, Any]) -> Pool:
    """``range`` is a CIDR, or ``first-last/length``; ``range_start`` and ``range_end`` narrow it."""
    start, dash, rest = str(one["range"]).partition("-")
    interface = ipaddress.ip_interface(rest if dash else start)
    network = interface.network
    first, last = int(network.network_address) + 1, int(network.broadcast_address) - (network.version == 4)  # noqa: PLR2004
    if dash:
        first, last = int(ipaddress.ip_address(start)), int(interface.ip)
    if one.get("range_start"):
        first = int(ipaddress.ip_address(one["range_start"]))
    if one.get("range_end"):
        last = int(ipaddress.ip_address(one["range_end"]))
    name = str(network).replace("/", "-").replace(":", "-")
    prefix = f"{ipam['network_name']}-" if ipam.get("network_name") else ""
    excluded = sum(_overlap(hole, first, last) for hole in _holes(one.get("exclude") or ()))
    return Pool(prefix + name, int(network.network_address), first, last, excluded)


def _holes(texts: Sequence[str]) -> Iterator[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    found = [ipaddress.ip_network(text, strict=False) for text in texts]
    yield from ipaddress.collapse_addresses(one for one in found if isinstance(one, ipaddress.IPv4Network))
    yield from ipaddress.collapse_addresses(one for one in found if isinstance(one, ipaddress.IPv6Network))


def _overlap(hole: ipaddress.IPv4Network | ipaddress.IPv6Network, first: int, last: int) -> int:
    return max(0, min(last, int(hole.broadcast_address)) - max(first, int(hole.network_address)) + 1)
