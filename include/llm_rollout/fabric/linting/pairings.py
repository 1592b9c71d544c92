"""Which documented pairing of device and network a pod uses; with another one no rollout has been proved.

The pairings are those of NVIDIA's network operator (device plugins) and of DraNet.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from llm_rollout.fabric.linting.networks import SHARED_PREFIX
from llm_rollout.fabric.linting.users import User
from llm_rollout.manifests.findings import Finding

_SHARED = {"macvlan": "shared device plugin with macvlan", "ipoib": "shared device plugin with IPoIB"}
_EXCLUSIVE = {
    "host-device": "SR-IOV device plugin with host-device",
    "sriov": "SR-IOV device plugin with the SR-IOV CNI",
    "ib-sriov": "SR-IOV device plugin with the InfiniBand SR-IOV CNI",
}
_BROKEN = (SHARED_PREFIX, "host-device")
"""K2 says that this one cannot start; here it is not said again."""


@dataclass(frozen=True)
class Pairing:
    """What gives a pod its RDMA device and its interface; at most one of the two fields is set."""

    name: str = ""
    """The documented pairing, "" where it is not known."""
    unknown: str = ""
    """What is not known about it, "" where nothing is odd: the networks may just not be given."""


def pairing_of(user: User) -> Pairing:
    """The pairing of one template, from its claims, its device and its networks as far as they are given."""
    if user.requests:
        return _of_claims(user)
    if user.host_network:
        return Pairing("the node's own network")
    if not user.networks:
        return Pairing()
    if not user.devices:
        return Pairing(unknown="the pods attach a network and ask for no RDMA device")
    found = [_of_one(device, cni) for device, cni in _pairs(user)]
    odd = next((one for one in found if one.unknown), None)
    names = dict.fromkeys(one.name for one in found if one.name)
    return odd or Pairing(" and ".join(names))


def doubt(user: User) -> Iterator[Finding]:
    """K2, a warning: a pairing that no documentation knows."""
    unknown = pairing_of(user).unknown
    if unknown:
        known = ", ".join([*_SHARED.values(), *_EXCLUSIVE.values(), "DRA (DraNet)"])
        advice = (f"unknown pairing of device and network: {unknown}", f"use a documented one: {known}")
        yield user.template.warning("K2", user.template.at("resources"), ", ".join(user.devices) or None, advice)


def recognised(users: Sequence[User]) -> Iterator[tuple[str, str]]:
    """KIND/NAME of a manifest, and one sentence on the pairing that its pods use."""
    said: dict[str, dict[str, list[str]]] = {}
    for user in users:
        name = pairing_of(user).name
        if name:
            said.setdefault(user.template.name, {}).setdefault(name, []).append(user.template.role)
    for manifest, pairings in said.items():
        sentences = (f"{' and '.join(dict.fromkeys(roles))}: {name}" for name, roles in pairings.items())
        yield manifest, f"RDMA of {manifest} {'; '.join(sentences)}"


def _of_claims(user: User) -> Pairing:
    if user.devices:
        return Pairing(unknown=f"the pods claim RDMA devices and ask for {', '.join(user.devices)} beside")
    strange = next((one for one in user.requests if not one.driver and one.source is not None), None)
    if strange is not None:
        what = f"device class {strange.device_class}" if strange.device_class else "a request without device class"
        return Pairing(unknown=f"{what} does not say that its driver is dra.net")
    return Pairing("DRA (DraNet)" if any(one.driver for one in user.requests) else "")


def _pairs(user: User) -> list[tuple[str, str]]:
    """Each attached network's device and CNI; a network that is tied to no resource goes with the pods' own."""
    readable = (one for one in user.networks if one.whole_config is not None)
    pairs = [(one.resource or user.devices[0], one.cni) for one in readable]
    return list(dict.fromkeys(pairs))


def _of_one(device: str, cni: str) -> Pairing:
    shared = device.startswith(SHARED_PREFIX)
    if (SHARED_PREFIX if shared else "", cni) == _BROKEN:
        return Pairing()
    name = (_SHARED if shared else _EXCLUSIVE).get(cni)
    if name:
        return Pairing(name)
    kind = "the shared plugin's prefix rdma/" if shared else "an exclusive resource"
    return Pairing(unknown=f"{device} ({kind}) with the CNI {cni or 'that only the nodes configure'}")
