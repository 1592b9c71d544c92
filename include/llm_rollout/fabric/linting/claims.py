"""Devices that a pod claims by dynamic resource allocation (resource.k8s.io), DraNet's above all."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from llm_rollout.manifests.findings import (
    Template,
    at,
    mapping,
    mappings,
    namespace_of,
    number,
    of_kind,
    own_name,
    text,
)
from llm_rollout.ports import Manifest

DRIVER = "dra.net"
_RDMA_WORDS = re.compile(r"rdma|dra\.?net", re.IGNORECASE)


@dataclass(frozen=True)
class Request:
    """One request of a claim for RDMA devices."""

    claim: str
    """The claim's name inside the pod."""
    source: Manifest | None
    """The ResourceClaim or ResourceClaimTemplate; None where it is not given."""
    path: str
    """Where the request stands in it."""
    device_class: str
    devices: int | None
    """How many; None means all of a node."""
    driver: str
    """``dra.net`` where the request or its class says so, else ""."""
    reaches_container: bool
    """Whether the container that runs the engine names the claim."""


def requests_of(template: Template, manifests: Sequence[Manifest]) -> list[Request]:
    """The RDMA requests of a pod's claims; of claims that are not given those whose name says RDMA."""
    used = {text(claim.get("name")) for claim in mappings(at(template.container, "resources", "claims"))}
    found = []
    for claim in mappings(at(template.body, "spec", "resourceClaims")):
        name = text(claim.get("name"))
        for source, path, request in _sources(claim, template.namespace, manifests):
            one = _request(name, source, path, request, manifests)
            if one.driver or _RDMA_WORDS.search(f"{one.device_class} {json.dumps(request, default=str)} {name}"):
                found.append(Request(**{**vars(one), "reaches_container": name in used}))
    return found


def missing_classes(requests: Sequence[Request], manifests: Sequence[Manifest]) -> Iterator[Request]:
    """Requests of a class that is not among those given."""
    known = {own_name(one) for one in of_kind(manifests, "DeviceClass")}
    return (one for one in requests if known and one.device_class and one.device_class not in known)


def _sources(
    claim: dict[str, Any], namespace: str, manifests: Sequence[Manifest]
) -> Iterator[tuple[Manifest | None, str, dict[str, Any]]]:
    """The claim's requests, each with where it stands."""
    wanted = {
        "ResourceClaimTemplate": ("spec.spec.devices.requests", text(claim.get("resourceClaimTemplateName"))),
        "ResourceClaim": ("spec.devices.requests", text(claim.get("resourceClaimName"))),
    }
    for kind, (path, name) in wanted.items():
        given = [
            one for one in of_kind(manifests, kind) if name and own_name(one) == name and namespace_of(one) == namespace
        ]
        for one in given:
            for request in mappings(at(one, *path.split("."))):
                yield one, path, request
        if name and not given:
            yield None, "", {"name": name}


def _request(
    claim: str, source: Manifest | None, path: str, request: dict[str, Any], manifests: Sequence[Manifest]
) -> Request:
    """Since v1beta2 of the API the device stands under ``exactly``, before beside the request's name."""
    exactly = mapping(request.get("exactly")) or request
    class_name = text(exactly.get("deviceClassName"))
    classes = [one for one in of_kind(manifests, "DeviceClass") if own_name(one) == class_name]
    selectors = json.dumps([exactly.get("selectors"), [one.get("spec") for one in classes]], default=str)
    everything = text(exactly.get("allocationMode")) == "All" or source is None
    return Request(
        claim=claim,
        source=source,
        path=path,
        device_class=class_name,
        devices=None if everything else number(exactly.get("count"), 1),
        driver=DRIVER if DRIVER in selectors else "",
        reaches_container=False,
    )
