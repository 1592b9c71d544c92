"""The defects of RDMA settings that a manifest shows before anything runs: K0 to K11.

A wrong setting rarely fails at once: NCCL falls back to sockets silently, or fails minutes later on one node.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from llm_rollout.manifests.findings import (
    Finding,
    Template,
    at,
    is_env_block,
    manifest_name,
    namespace_of,
    of_kind,
    templates,
)
from llm_rollout.ports import Manifest

_NETWORKS = "k8s.v1.cni.cncf.io/networks"
_RESOURCE_NAME = "k8s.v1.cni.cncf.io/resourceName"
_SHARED_PREFIX = "rdma/"
"""The shared device plugin's default prefix; its device ids are counters, not PCI addresses."""
_TRAFFIC_CLASSES, _SERVICE_LEVELS, _QUEUE_PAIRS = range(256), range(16), range(1, 129)
"""A traffic class is a whole ToS byte with the DSCP in its upper six bits."""
_POD_SIDE_NAME = re.compile(r"=?net\d+$")


def lint(manifests: Sequence[Manifest]) -> list[Finding]:
    """Everything that is wrong with the RDMA settings of these manifests taken together, and what may be (warnings).

    Give the cluster's Node objects too, and the device's name is compared with what they offer.
    """
    networks = of_kind(manifests, "NetworkAttachmentDefinition")
    users = [template for template in templates(manifests) if _uses_rdma(template)]
    findings = [finding for network in networks for finding in _network(network)]
    for template in users:
        findings += [*_settings(template), *_switch_settings(template)]
        if is_env_block(template.manifest):
            findings.append(_stray(template))
        else:
            findings += [
                *_resource(template, manifests),
                *_attachment(template, networks),
                *_rails(template, networks),
                *_capability(template),
                *_visibility(template),
            ]
    return findings + list(_one_sided(users))


def _uses_rdma(template: Template) -> bool:
    return _device(template) is not None or any(name.startswith("NCCL_IB_") for name in template.env)


def _device(template: Template) -> str | None:
    """The RDMA resource that a template asks for."""
    return next((name for name in template.limits if re.match(r"rdma/|nvidia\.com/(?!gpu|mig)", name)), None)


def _network(network: Manifest) -> Iterator[Finding]:
    config = _config(network)
    name, path = manifest_name(network), "spec.config"
    device = config.get("device")
    resource = str((at(network, "metadata", "annotations") or {}).get(_RESOURCE_NAME, ""))
    if config.get("type") == "host-device" and _POD_SIDE_NAME.match(str(device)):
        message = "this is the interface's name inside the pod; the host has no such device (Link not found)"
        yield Finding("K1", name, f"{path}.device", device, message, "name the host's port, for example ens1f0np0")
    if config.get("type") == "host-device" and resource.startswith(_SHARED_PREFIX):
        message = (
            "host-device takes the device id of the shared plugin, a counter, for a PCI address, so no pod can start"
        )
        remedy = "use macvlan on the host's port, or host-device with an exclusive resource of the SR-IOV plugin"
        yield Finding("K2", name, f"{path}.type", "host-device", message, remedy)
    if "/" in str(config.get("name", "")):
        message = "the CNI rejects '/' in a network's name"
        yield Finding("K2", name, f"{path}.name", config["name"], message, "write it without '/'")


def _config(network: Manifest) -> dict[str, Any]:
    """The CNI configuration; of a list of plugins the first, which makes the interface."""
    try:
        config = json.loads(at(network, "spec", "config") or "{}")
    except (ValueError, TypeError):
        return {}
    plugins = config.get("plugins") if isinstance(config, dict) else None
    return dict(plugins[0] if plugins else config) if isinstance(config, dict) else {}


def _resource(template: Template, manifests: Sequence[Manifest]) -> Iterator[Finding]:
    """K0: the device must be one that some node offers, and the one that the attachments are tied to."""
    device = _device(template)
    if device is None:
        return
    path = template.at("resources.limits")
    nodes = of_kind(manifests, "Node")
    offered = {name for node in nodes for name in at(node, "status", "allocatable") or ()}
    if nodes and device not in offered:
        near = sorted(name for name in offered if name.startswith(("rdma/", "nvidia.com/"))) or ["no RDMA resource"]
        advice = ("no node offers this resource", f"the nodes offer {', '.join(near)}")
        yield template.finding("K0", path, device, advice)
    tied = {
        str(at(network, "metadata", "annotations", _RESOURCE_NAME))
        for network in of_kind(manifests, "NetworkAttachmentDefinition")
        if at(network, "metadata", "annotations", _RESOURCE_NAME)
    }
    if tied and device not in tied:
        advice = (f"the attachments are tied to {', '.join(sorted(tied))}", "ask for the same resource in both places")
        yield template.finding("K0", path, device, advice)


def _attachment(template: Template, networks: Sequence[Manifest]) -> Iterator[Finding]:
    """K3: a network that exists and that nobody attaches leaves the pod with sockets on eth0."""
    path = f"{template.path}.metadata.annotations"
    attached = _attached(template)
    needed = bool(networks) or _POD_SIDE_NAME.match(template.env.get("NCCL_SOCKET_IFNAME", ""))
    if needed and not attached:
        names = ",".join(str(at(network, "metadata", "name")) for network in networks) or "NETWORK"
        message = "the pods attach no RDMA network, so NCCL falls back to TCP without an error"
        yield template.finding("K3", path, None, (message, f"add {_NETWORKS}: {names} to leader and worker"))
    known = {(namespace_of(network), at(network, "metadata", "name")) for network in networks}
    for network in attached:
        name = network.partition("@")[0]
        namespace, _, bare = name.rpartition("/")
        elsewhere = {place for place, other in known if other == bare}
        if elsewhere and (namespace or template.namespace) not in elsewhere:
            advice = (
                f"the network is in namespace {', '.join(sorted(elsewhere))}, the pods look in {template.namespace}",
                f"write {min(elsewhere)}/{bare}",
            )
            yield template.finding("K3", path, network, advice)


def _attached(template: Template) -> list[str]:
    """The attachments' names, in both forms that the annotation allows."""
    text = str(template.annotations.get(_NETWORKS, "")).strip()
    if not text.startswith("["):
        return [name.strip() for name in text.split(",") if name.strip()]
    try:
        entries = json.loads(text)
    except ValueError:
        return []
    return ["/".join(filter(None, (entry.get("namespace"), entry.get("name", "")))) for entry in entries]


def _rails(template: Template, networks: Sequence[Manifest]) -> Iterator[Finding]:
    """K4: every rail needs an interface of its own, or its HCA has no address."""
    attachments = len(_attached(template)) or len(networks)
    rails = _wanted_rails(template)
    if 0 < attachments < rails:
        message = f"{attachments} attached network(s) for {rails} rails: the other HCAs have no address"
        remedy = f"attach one network for each rail ({rails}), or list only the HCAs that are attached"
        yield template.finding("K4", f"{template.path}.metadata.annotations", attachments, (message, remedy))


def _wanted_rails(template: Template) -> int:
    """As many as HCAs are listed; a bare prefix such as mlx5 takes all, and nodes have one for each GPU."""
    listed = template.env.get("NCCL_IB_HCA", "")
    exact = [hca for hca in listed.removeprefix("=").split(",") if re.search(r"_\d+$", hca)]
    gpus = str(template.limits.get("nvidia.com/gpu", "0"))
    if listed.startswith("^"):
        return 0
    return len(exact) or (int(gpus) if gpus.isdigit() else 0)


def _capability(template: Template) -> Iterator[Finding]:
    """K5: RDMA pins memory."""
    security = template.container.get("securityContext") or {}
    capabilities = at(security, "capabilities", "add") or []
    if _device(template) and not security.get("privileged") and "IPC_LOCK" not in capabilities:
        message = "without IPC_LOCK registering memory fails (Cannot allocate memory)"
        advice = (message, "add securityContext.capabilities.add: [IPC_LOCK] to leader and worker")
        yield template.finding("K5", template.at("securityContext"), capabilities or None, advice)


def _settings(template: Template) -> Iterator[Finding]:
    """K6 to K11 as far as a value is wrong wherever it runs."""
    env, path = template.env, template.at("env")
    hca, interface = env.get("NCCL_IB_HCA"), env.get("NCCL_SOCKET_IFNAME")
    if hca and not hca.startswith(("=", "^=")):
        message = "taken as prefixes, which also match storage and management ports"
        yield template.finding("K6", f"{path}.NCCL_IB_HCA", hca, (message, "write exact names: =mlx5_0,mlx5_1,…"))
    if env.get("NCCL_IB_GID_INDEX", "-1") != "-1":
        message = "GID indexes differ from pod to pod; NCCL finds the right one itself since 2.21"
        remedy = "remove it, or steer by NCCL_IB_ADDR_RANGE or NCCL_IB_ROCE_VERSION_NUM"
        yield template.finding("K7", f"{path}.NCCL_IB_GID_INDEX", env["NCCL_IB_GID_INDEX"], (message, remedy))
    if interface and not interface.startswith(("=", "^=")):
        message = "taken as a prefix (net1 also means net10), and only for NCCL's bootstrap"
        yield template.finding("K8", f"{path}.NCCL_SOCKET_IFNAME", interface, (message, "write =eth0"))
    yield from _classes(template)


def _classes(template: Template) -> Iterator[Finding]:
    """K9 and K11: values that no switch and no NCCL accepts."""
    for code, name, fits, advice in (
        ("K9", "NCCL_IB_TC", _TRAFFIC_CLASSES, ("a ToS byte", "write DSCP * 4, from 0 to 252")),
        ("K9", "NCCL_IB_SL", _SERVICE_LEVELS, ("a service level from 0 to 15", "write 0 to 15")),
        ("K11", "NCCL_IB_QPS_PER_CONNECTION", _QUEUE_PAIRS, ("from 1 to 128", "write 1 to 128")),
    ):
        text = template.env.get(name)
        if text is not None and not (text.isdigit() and int(text) in fits):
            yield template.finding(code, template.at("env", name), text, (f"not {advice[0]}", advice[1]))


def _visibility(template: Template) -> Iterator[Finding]:
    """K10: settings beside the pods configure nothing, and a quiet log hides the transport."""
    env, path = template.env, template.at("env")
    if not any(name.startswith("NCCL_") for name in env):
        message = "the pods ask for RDMA and have no NCCL settings; those written elsewhere do not reach them"
        advice = (message, "put NCCL_IB_HCA, NCCL_SOCKET_IFNAME and NCCL_DEBUG into both templates")
        yield template.finding("K10", path, None, advice)
    elif env.get("NCCL_DEBUG") not in {"INFO", "TRACE"}:
        message = "below INFO the log does not name the transport, so a fall back to sockets stays unseen"
        advice = (message, "write INFO, with NCCL_DEBUG_SUBSYS=INIT,NET")
        yield template.finding("K10", f"{path}.NCCL_DEBUG", env.get("NCCL_DEBUG"), advice)


def _stray(block: Template) -> Finding:
    """K10: an env block outside of the pods."""
    message = "an env block beside the manifests reaches no container"
    return block.finding("K10", "env", None, (message, "put it into the containers of leader and worker"))


def _one_sided(users: Sequence[Template]) -> Iterator[Finding]:
    """K3 between leader and worker: both ends of a connection need the same network."""
    pairs = [(one, two) for one in users for two in users if one.manifest is two.manifest and one.role < two.role]
    for leader, worker in pairs:
        if _attached(leader) and _attached(worker) and _attached(leader) != _attached(worker):
            message = f"the leader attaches {','.join(_attached(leader))}"
            path = f"{worker.path}.metadata.annotations"
            advice = (message, "attach the same networks on leader and worker")
            yield worker.finding("K3", path, ",".join(_attached(worker)), advice)


def _switch_settings(template: Template) -> Iterator[Finding]:
    """K9 and K11, warnings: right or wrong by switches that no manifest shows."""
    env, path = template.env, template.at("env")
    traffic_class, level = env.get("NCCL_IB_TC", ""), env.get("NCCL_IB_SL", "")
    if traffic_class.isdigit() and int(traffic_class) in _TRAFFIC_CLASSES:
        message = f"DSCP {int(traffic_class) >> 2}; it must be the lossless class of the switches"
        yield template.warning("K9", f"{path}.NCCL_IB_TC", traffic_class, (message, "compare with the fabric"))
    if level.isdigit() and int(level) in _SERVICE_LEVELS:
        message = "matters on InfiniBand and VLANs with priorities only"
        yield template.warning("K9", f"{path}.NCCL_IB_SL", level, (message, "compare with the fabric"))
    pairs = env.get("NCCL_IB_QPS_PER_CONNECTION", "1")
    if pairs.isdigit() and int(pairs) in _QUEUE_PAIRS and pairs != "1":
        advice = ("spreads load over paths; 1 is the default", "measure with ib_write_bw -q 1 and with this number")
        yield template.warning("K11", f"{path}.NCCL_IB_QPS_PER_CONNECTION", pairs, advice)
