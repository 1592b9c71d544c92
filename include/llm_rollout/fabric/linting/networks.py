"""NetworkAttachmentDefinitions: what they configure, K1 and K2, and their right forms."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llm_rollout.manifests import corrections
from llm_rollout.manifests.findings import (
    Finding,
    at,
    items,
    manifest_name,
    mapping,
    namespace_of,
    of_kind,
    own_name,
    text,
)
from llm_rollout.ports import Manifest

NETWORKS = "k8s.v1.cni.cncf.io/networks"
RESOURCE_NAME = "k8s.v1.cni.cncf.io/resourceName"
SHARED_PREFIX = "rdma/"
"""The shared device plugin's default prefix; its device ids are counters, not PCI addresses."""
TAKES_A_DEVICE = frozenset({"host-device", "sriov", "ib-sriov"})
"""CNIs that move the allocated device itself into the pod; macvlan and ipoib put an interface upon it."""
POD_SIDE_NAME = re.compile(r"=?net\d+$")

_HOST_PORTS = "ens{}f0np0 stands for the node's port of rail {} (ip -br link on the node)"
_PATH = "spec.config"


@dataclass(frozen=True)
class Network:
    """One NetworkAttachmentDefinition."""

    manifest: Manifest

    @property
    def name(self) -> str:
        """Its name, without the namespace."""
        return own_name(self.manifest)

    @property
    def namespace(self) -> str:
        """Where it is."""
        return namespace_of(self.manifest)

    @property
    def resource(self) -> str:
        """The resource whose device multus hands to the CNI; "" where it is tied to none."""
        return text(at(self.manifest, "metadata", "annotations", RESOURCE_NAME))

    @property
    def whole_config(self) -> dict[str, Any] | None:
        """The configuration as it stands, None where it is no JSON object; {} where the host's own is meant."""
        written = at(self.manifest, "spec", "config")
        if not written:
            return {}
        try:
            config = json.loads(written)
        except (ValueError, TypeError, RecursionError):
            return None
        return mapping(config) if isinstance(config, Mapping) else None

    @property
    def config(self) -> dict[str, Any]:
        """The CNI's configuration; of a list of plugins the first, which makes the interface."""
        config = self.whole_config or {}
        plugins = items(config.get("plugins"))
        return mapping(plugins[0]) if plugins else config

    @property
    def cni(self) -> str:
        """The CNI plugin's type, "" where it is not written here."""
        return text(self.config.get("type"))


def networks_of(manifests: Sequence[Manifest]) -> list[Network]:
    """All that are given."""
    return [Network(manifest) for manifest in of_kind(manifests, "NetworkAttachmentDefinition")]


def defects(network: Network) -> Iterator[Finding]:
    """K1 and K2: configurations with which no pod can start."""
    config, name, cni = network.config, manifest_name(network.manifest), network.cni
    device = text(config.get("device"))
    if network.whole_config is None:
        message = "this is no JSON object, so no CNI can read it and no pod can start"
        written = text(at(network.manifest, "spec", "config"))
        corrected = corrections.inside(name, "spec", {"config": _written(with_macvlan({}, 1))}, port_remark(1))
        yield Finding("K2", name, _PATH, written, message, "write one JSON object", corrected=corrected)
    if cni == "host-device" and POD_SIDE_NAME.match(device):
        message = "this is the interface's name inside the pod; the host has no such device (Link not found)"
        fix = "name the host's port, for example ens1f0np0"
        yield Finding("K1", name, f"{_PATH}.device", device, message, fix, corrected=_right(network))
    if cni == "host-device" and network.resource.startswith(SHARED_PREFIX):
        message = (
            "host-device takes the device id of the shared plugin, a counter, for a PCI address, so no pod can start"
        )
        fix = "use macvlan on the host's port, or host-device with an exclusive resource of the SR-IOV plugin"
        yield Finding("K2", name, f"{_PATH}.type", "host-device", message, fix, corrected=_right(network))
    if "/" in text((network.whole_config or {}).get("name")):
        yield _slash(network)


def _slash(network: Network) -> Finding:
    config, name = network.whole_config or {}, manifest_name(network.manifest)
    renamed = {**config, "name": text(config["name"]).replace("/", "-")}
    corrected = corrections.inside(name, "spec", {"config": _written(renamed)})
    message, fix = "the CNI rejects '/' in a network's name", "write it without '/'"
    return Finding("K2", name, f"{_PATH}.name", config["name"], message, fix, corrected=corrected)


def _right(network: Network) -> str:
    """A form that works with the network's resource: the shared plugin's wants macvlan, the SR-IOV plugin's no name.

    The SR-IOV plugin allocates a device, whose PCI address multus writes into the configuration.
    """
    name = manifest_name(network.manifest)
    if network.resource.startswith(SHARED_PREFIX):
        config, remark = with_macvlan(network.config, 1), port_remark(1)
    elif network.resource:
        config = {key: value for key, value in network.config.items() if key != "device"}
        remark = f"the device comes from {network.resource}"
    else:
        config, remark = {**network.config, "device": "ens1f0np0"}, port_remark(1)
    return corrections.inside(name, "spec", {"config": _written(config)}, remark)


def with_macvlan(config: Mapping[str, Any], rail: int) -> dict[str, Any]:
    """The configuration with macvlan on a port of the host, and its addresses as they were."""
    kept = {key: value for key, value in config.items() if key in {"cniVersion", "name", "ipam"}}
    port = config.get("master") or config.get("device")
    master = f"ens{rail}f0np0" if not port or POD_SIDE_NAME.match(text(port)) else text(port)
    ipam = kept.pop("ipam", None) or {"type": "whereabouts", "range": "10.0.100.0/24"}
    version = kept.pop("cniVersion", "0.3.1")
    return {"cniVersion": version, **kept, "type": "macvlan", "master": master, "mode": "bridge", "ipam": ipam}


def sibling(network: Network, name: str, rail: int) -> Manifest:
    """A network like this one for another rail: its own port and its own subnet, or rails answer for each other."""
    config = dict(network.config)
    for key in ("device", "master"):
        if key in config:
            config[key] = f"ens{rail}f0np0"
    config["ipam"] = {**mapping(config.get("ipam")), **_subnet(config, rail)}
    config.pop("name", None)
    metadata = {**mapping(network.manifest.get("metadata")), "name": name}
    return {**network.manifest, "metadata": metadata, "spec": {"config": _written(config)}}


def port_remark(*rails: int) -> str:
    """What the reader has to fill in for the ports of these rails."""
    return "\n".join(_HOST_PORTS.format(rail, rail) for rail in rails)


def _subnet(config: Mapping[str, Any], rail: int) -> dict[str, Any]:
    """The range of another rail: as many networks further on as rails."""
    written = at(config, "ipam", "range")
    try:
        first = ipaddress.ip_network(text(written), strict=False)
        start = int(first.network_address) + (rail - 1) * first.num_addresses
        return {"range": str(type(first)((start, first.prefixlen)))}
    except (ValueError, OverflowError):
        return {}


def _written(config: Mapping[str, Any]) -> str:
    return json.dumps(config, indent=2) + "\n"
