"""K0, K3, K4 and K5: what pods ask for and attach, against the networks, nodes and claims that are given."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from llm_rollout.fabric.linting.claims import missing_classes
from llm_rollout.fabric.linting.networks import (
    NETWORKS,
    POD_SIDE_NAME,
    RESOURCE_NAME,
    SHARED_PREFIX,
    TAKES_A_DEVICE,
    Network,
    port_remark,
    sibling,
)
from llm_rollout.fabric.linting.users import User, is_rdma_resource
from llm_rollout.manifests import corrections
from llm_rollout.manifests.findings import (
    Finding,
    Template,
    at,
    items,
    joined,
    manifest_name,
    mapping,
    number,
    of_kind,
    text,
)
from llm_rollout.ports import Manifest


def defects(user: User, manifests: Sequence[Manifest]) -> Iterator[Finding]:
    """Everything that one template gets wrong."""
    yield from _offers(user, manifests)
    yield from _ties(user, manifests)
    yield from _classes(user, manifests)
    if not user.host_network:
        yield from _attachment(user)
        yield from _places(user)
        yield from _rails(user)
    yield from _claims(user)
    yield from _capability(user)


def one_sided(users: Sequence[User]) -> Iterator[Finding]:
    """K3 between leader and worker: both ends of a connection need the same networks."""
    pairs = [
        (one, two)
        for one in users
        for two in users
        if one.template.manifest is two.template.manifest and one.template.role < two.template.role
    ]
    for leader, worker in pairs:
        mine, its = _names(leader), _names(worker)
        if mine and its and mine != its:
            corrected = _annotated(worker.template, mine)
            advice = (f"the leader attaches {mine}", "attach the same networks on leader and worker")
            yield worker.template.finding("K3", _annotations(worker), its, advice, corrected)


def _offers(user: User, manifests: Sequence[Manifest]) -> Iterator[Finding]:
    """K0: the device must be one that some node offers."""
    nodes = of_kind(manifests, "Node")
    offered = _offered(manifests)
    for device in user.devices if nodes else ():
        if device not in offered:
            near = sorted(name for name in offered if is_rdma_resource(name))
            advice = ("no node offers this resource", f"the nodes offer {', '.join(near) or 'no RDMA resource'}")
            corrected = _renamed(user, device, near[0]) if near else ""
            yield user.template.finding("K0", user.template.at("resources.limits"), device, advice, corrected)


def _ties(user: User, manifests: Sequence[Manifest]) -> Iterator[Finding]:
    """K0: the device must be the one that the attachments are tied to."""
    tied = sorted({network.resource for network in user.networks or user.given if network.resource})
    strangers = [resource for resource in tied if resource not in user.devices]
    if not user.devices or not strangers:
        return
    nodes_offer = _offered(manifests)
    device, stranger = user.devices[0], strangers[0]
    if device in nodes_offer and stranger not in nodes_offer:
        corrected = _tied(user, stranger, device)
    else:
        corrected = _asking(user.template, device, stranger)
    advice = (f"the attachments are tied to {', '.join(tied)}", "ask for the same resource in both places")
    yield user.template.finding("K0", user.template.at("resources.limits"), device, advice, corrected)


def _offered(manifests: Sequence[Manifest]) -> set[str]:
    return {name for node in of_kind(manifests, "Node") for name in mapping(at(node, "status", "allocatable"))}


def _renamed(user: User, device: str, right: str) -> str:
    """Pods and networks with another resource."""
    return corrections.together(_asking(user.template, device, right), _tied(user, device, right))


def _tied(user: User, resource: str, right: str) -> str:
    """The networks that are tied to a resource, tied to another one."""
    lines = {"metadata": {"annotations": {RESOURCE_NAME: right}}}
    tied = (manifest_name(one.manifest) for one in user.given if one.resource == resource)
    return corrections.together(*(corrections.inside(name, "", lines) for name in tied))


def _asking(template: Template, device: str, right: str) -> str:
    """The container asks for another resource, as often as before."""
    resources = mapping(template.container.get("resources"))
    changed = {
        part: {device: None, right: mapping(resources[part])[device]}
        for part in ("limits", "requests")
        if device in mapping(resources.get(part))
    }
    return corrections.in_container(template, {"resources": changed})


def _classes(user: User, manifests: Sequence[Manifest]) -> Iterator[Finding]:
    """K0 of claims: the class must be one that the cluster has."""
    known = sorted(text(at(one, "metadata", "name")) for one in of_kind(manifests, "DeviceClass"))
    for request in missing_classes(user.requests, manifests):
        if request.source is not None:
            message = "the claim's device class is not among those given, so no device is found and the pods wait"
            path = joined(request.path, "deviceClassName")
            corrected = _in_request(request.source, request.path, request.device_class, {"deviceClassName": known[0]})
            name, fix = manifest_name(request.source), f"write {' or '.join(known)}"
            yield Finding("K0", name, path, request.device_class, message, fix, corrected=corrected)


def _attachment(user: User) -> Iterator[Finding]:
    """K3: a network that exists and that nobody attaches leaves the pod with sockets on eth0."""
    template = user.template
    needed = bool(user.given) or POD_SIDE_NAME.match(template.env.get("NCCL_SOCKET_IFNAME", ""))
    if needed and not user.attachments and not user.requests:
        own = [one for one in user.given if one.namespace == template.namespace]
        names = [one.name for one in own] or [f"{one.namespace}/{one.name}" for one in user.given]
        listed = ",".join(names or [f"rail-{rail}" for rail in range(max(1, user.rails))])
        message = "the pods attach no RDMA network, so NCCL falls back to TCP without an error"
        advice = (message, f"add {NETWORKS}: {listed if names else 'NETWORK'} to leader and worker")
        yield template.finding("K3", _annotations(user), None, advice, _annotated(template, listed))


def _places(user: User) -> Iterator[Finding]:
    """K3: networks are looked for in the pods' namespace."""
    template = user.template
    for attachment in user.attachments:
        elsewhere = sorted({one.namespace for one in user.given if one.name == attachment.name})
        if elsewhere and user.network(attachment) is None:
            looked_in = attachment.namespace or template.namespace
            message = f"the network is in namespace {', '.join(elsewhere)}, the pods look in {looked_in}"
            advice = (message, f"write {elsewhere[0]}/{attachment.name}")
            moved = replace(attachment, namespace=elsewhere[0])
            entries = [moved if one == attachment else one for one in user.attachments]
            corrected = _annotated(template, ",".join(map(str, entries)))
            yield template.finding("K3", _annotations(user), str(attachment), advice, corrected)
        elif not elsewhere and user.given:
            message = "this network is not among those given; where it is missing the pod does not start"
            advice = (message, "create it, or name one that exists")
            yield template.warning("K3", _annotations(user), str(attachment), advice)


def _rails(user: User) -> Iterator[Finding]:
    """K4: every rail needs an interface of its own, or its HCA has no address."""
    template, rails = user.template, user.rails
    attached = len(user.attachments) or len(user.given)
    if 0 < attached < rails and not user.requests:
        message = f"{attached} attached network(s) for {rails} rails: the other HCAs have no address"
        fix = f"attach one network for each rail ({rails}), or list only the HCAs that are attached"
        yield template.finding("K4", _annotations(user), attached, (message, fix), _all_rails(user))
    takers = [one.resource for one in user.networks if one.cni in TAKES_A_DEVICE and one.resource in user.devices]
    for device in sorted({one for one in takers if not one.startswith(SHARED_PREFIX)}):
        needed, asked = takers.count(device), number(template.limits[device], takers.count(device))
        if asked < needed:
            message = f"{needed} networks take a device each from {device}, the container asks for {asked}"
            corrected = corrections.in_container(template, {"resources": {"limits": {device: needed}}})
            advice = (message, f"ask for {needed}")
            yield template.finding("K4", template.at("resources.limits"), asked, advice, corrected)


def _all_rails(user: User) -> str:
    """An attachment for each rail; networks of the SR-IOV plugin serve several, others are made for one."""
    names = [str(one) for one in user.attachments] or [one.name for one in user.given]
    attached = user.networks or list(user.given)
    missing = range(len(names) + 1, user.rails + 1)
    if attached and user.exclusive:
        limits = dict.fromkeys(user.devices, user.rails)
        more = corrections.in_container(user.template, {"resources": {"limits": limits}})
        return corrections.together(_annotated(user.template, ",".join(names + names[:1] * len(missing))), more)
    first = attached[0] if attached else None
    stem = first.name.rstrip("0123456789").rstrip("-") if first else "rail"
    taken = {one.name for one in user.attachments} | {one.name for one in user.given}
    fresh = _fresh_names(stem, taken, len(missing))
    documents = [] if first is None else _siblings(first, dict(zip(missing, fresh, strict=True)))
    return corrections.together(_annotated(user.template, ",".join(names + fresh)), *documents)


def _siblings(first: Network, names: Mapping[int, str]) -> list[str]:
    where = manifest_name(first.manifest)
    return [corrections.beside(where, sibling(first, name, rail), port_remark(rail)) for rail, name in names.items()]


def _fresh_names(stem: str, taken: set[str], count: int) -> list[str]:
    free = (f"{stem}-{index}" for index in range(len(taken) + count + 1))
    return [name for name in free if name not in taken][:count]


def _claims(user: User) -> Iterator[Finding]:
    """K3 and K4 of claims: a claim that no container names hands over nothing, and one device is one rail."""
    template = user.template
    for request in user.requests:
        if not request.reaches_container:
            message = "the pods claim RDMA devices that the container does not name, so it sees none"
            listed = [*items(mapping(template.container.get("resources")).get("claims")), {"name": request.claim}]
            corrected = corrections.in_container(template, {"resources": {"claims": listed}})
            advice = (message, f"add resources.claims: [{{name: {request.claim}}}]")
            yield template.finding("K3", template.at("resources.claims"), None, advice, corrected)
    counts = [request.devices for request in user.requests]
    claimed = sum(count for count in counts if count is not None)
    source = user.requests[0].source if user.requests else None
    if source is not None and None not in counts and claimed < user.rails:
        message = f"{claimed} claimed device(s) for {user.rails} rails: the other HCAs are not in the pods"
        request = user.requests[0]
        lines = _in_request(source, request.path, request.device_class, {"count": user.rails})
        fix = f"write count: {user.rails}"
        yield Finding("K4", manifest_name(source), request.path, claimed, message, fix, corrected=lines)


def _in_request(source: Manifest, path: str, device_class: str, lines: Mapping[str, Any]) -> str:
    """Lines of the first request for a class, which stands under ``exactly`` or beside its name."""
    for request in items(at(source, *path.split("."))):
        exact = mapping(mapping(request).get("exactly"))
        if text((exact or mapping(request)).get("deviceClassName")) == device_class:
            entry = {"name": mapping(request).get("name"), **({"exactly": dict(lines)} if exact else lines)}
            return corrections.inside(manifest_name(source), "", corrections.nested(path, [entry]))
    return ""


def _capability(user: User) -> Iterator[Finding]:
    """K5: RDMA pins memory."""
    template = user.template
    security = mapping(template.container.get("securityContext"))
    added = items(at(security, "capabilities", "add"))
    uses = user.devices or user.requests or user.host_network
    if uses and security.get("privileged") is not True and "IPC_LOCK" not in added:
        message = "without IPC_LOCK registering memory fails (Cannot allocate memory)"
        advice = (message, "add securityContext.capabilities.add: [IPC_LOCK] to leader and worker")
        right = {"securityContext": {"capabilities": {"add": [*added, "IPC_LOCK"]}}}
        value = ", ".join(text(one) for one in added) or None
        yield template.finding(
            "K5", template.at("securityContext"), value, advice, corrections.in_container(template, right)
        )


def _names(user: User) -> str:
    return ",".join(str(one) for one in user.attachments)


def _annotations(user: User) -> str:
    return joined(user.template.path, "metadata.annotations")


def _annotated(template: Template, networks: str) -> str:
    return corrections.in_pod(template, {"metadata": {"annotations": {NETWORKS: networks}}})
