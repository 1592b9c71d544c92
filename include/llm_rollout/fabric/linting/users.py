"""Pod templates that use RDMA: what they ask for, attach and claim."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from llm_rollout.fabric.linting.claims import Request, requests_of
from llm_rollout.fabric.linting.networks import NETWORKS, SHARED_PREFIX, Network, networks_of
from llm_rollout.manifests.findings import Template, at, is_env_block, mappings, number, templates, text
from llm_rollout.ports import Manifest

_RDMA_RESOURCE = re.compile(r"rdma/|(nvidia\.com|mellanox\.com|openshift\.io)/(?!gpu|mig)")
"""Resources of the device plugins for NICs, by their documented prefixes."""


@dataclass(frozen=True)
class Attachment:
    """One entry of the pods' networks annotation."""

    namespace: str
    """As written, "" where the pods' own is meant."""
    name: str
    interface: str
    """Its name inside the pod as written, "" where multus is to number it."""

    def __str__(self) -> str:
        """As the short form of the annotation writes it."""
        place = f"{self.namespace}/{self.name}" if self.namespace else self.name
        return f"{place}@{self.interface}" if self.interface else place


@dataclass(frozen=True)
class User:
    """A pod template that uses RDMA."""

    template: Template
    devices: tuple[str, ...]
    """The RDMA resources of device plugins that it asks for."""
    attachments: tuple[Attachment, ...]
    given: tuple[Network, ...]
    """All networks that are given, attached or not."""
    requests: tuple[Request, ...]

    @property
    def networks(self) -> list[Network]:
        """The attached networks as far as they are given, one for each attachment."""
        found = [self.network(attachment) for attachment in self.attachments]
        return [network for network in found if network is not None]

    @property
    def interfaces(self) -> set[str]:
        """The attached interfaces' names inside the pod; unnamed ones are net1, net2, … in the order of the entries."""
        return {one.interface or f"net{position}" for position, one in enumerate(self.attachments, start=1)}

    @property
    def host_network(self) -> bool:
        """Whether the pods use the node's own interfaces."""
        return at(self.template.body, "spec", "hostNetwork") is True

    @property
    def exclusive(self) -> bool:
        """Whether each device serves one attachment only, as those of the SR-IOV plugin do."""
        return any(not device.startswith(SHARED_PREFIX) for device in self.devices)

    @property
    def rails(self) -> int:
        """As many as HCAs are listed; a bare prefix such as mlx5 takes all, and nodes have one for each GPU."""
        listed = self.template.env.get("NCCL_IB_HCA", "")
        if listed.startswith("^"):
            return 0
        exact = [hca for hca in listed.removeprefix("=").split(",") if re.search(r"_\d+(:\d+)?$", hca)]
        return len(exact) or number(self.template.limits.get("nvidia.com/gpu"))

    def network(self, attachment: Attachment) -> Network | None:
        """The network that an attachment means, None where it is not given."""
        place = (attachment.namespace or self.template.namespace, attachment.name)
        return next((one for one in self.given if (one.namespace, one.name) == place), None)


def users_of(manifests: Sequence[Manifest]) -> list[User]:
    """All templates that ask for an RDMA device, claim one, or set NCCL's RDMA transport up."""
    given = tuple(networks_of(manifests))
    found = []
    for template in templates(manifests):
        devices = tuple(name for name in template.limits if _RDMA_RESOURCE.match(name))
        requests = tuple(requests_of(template, manifests))
        settings = any(name.startswith("NCCL_IB_") for name in template.env)
        if (devices or requests or settings) and template.env.get("NCCL_IB_DISABLE", "0") != "1":
            found.append(User(template, devices, tuple(_attachments(template)), given, requests))
    return found


def in_pods(users: Sequence[User]) -> list[User]:
    """Those that are templates of pods, not env blocks beside them."""
    return [user for user in users if not is_env_block(user.template.manifest)]


def is_rdma_resource(name: str) -> bool:
    """Whether a device plugin for NICs offers it, by its prefix."""
    return bool(_RDMA_RESOURCE.match(name))


def _attachments(template: Template) -> list[Attachment]:
    """The attachments in both forms that the annotation allows."""
    written = text(template.annotations.get(NETWORKS)).strip()
    if not written.startswith("["):
        entries = [_from_text(entry.strip()) for entry in written.split(",") if entry.strip()]
    else:
        entries = [
            (text(entry.get("namespace")), text(entry.get("name")), text(entry.get("interface")))
            for entry in mappings(_parsed(written))
        ]
    return [Attachment(*entry) for entry in entries]


def _from_text(entry: str) -> tuple[str, str, str]:
    name, _, interface = entry.partition("@")
    namespace, _, bare = name.rpartition("/")
    return namespace, bare, interface


def _parsed(written: str) -> object:
    try:
        return json.loads(written)
    except (ValueError, RecursionError):
        return None
