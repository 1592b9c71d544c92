"""What is wrong before any traffic: each node compared with what it must have and with the others.

What could not be read is never wrong. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from llm_rollout.fabric.inventory import Finding, Member, Port

_ENOUGH_LOCKED_BYTES = 64 * 2**20
"""perftest and NCCL lock tens of MiB; the usual default of 8 MiB fails with "Cannot allocate memory"."""

_CABLE = "look at this port's cable, transceiver and NIC, and at the switch port at its other end"
_LOCK = (
    "give the pods IPC_LOCK: server.network.rdma_resource makes the manifests ask for it; the namespace's Pod Security"
    " level must allow it"
)
_DEVICES = "server.network.rdma_resource must name the resource of this cluster's RDMA device plugin"
_NETWORKS = "apply these NetworkAttachmentDefinitions in the model's namespace, and see that Multus runs on the node"
_ADDRESS = (
    "give the rail's net device an IPv4 address in the pod: its attachment in server.network.attachments needs IPAM"
)
_INDEX = (
    "remove NCCL_IB_GID_INDEX from server.network.nccl_env: NCCL 2.21 and later choose by themselves, and the right"
    " index differs between nodes"
)
_MTU = "set the MTU of the rail's net device (4200 for RoCE 4096) on this node and in its NetworkAttachmentDefinition"


def findings(members: Sequence[Member], hcas: Sequence[str], gid_index: int | None = None) -> list[Finding]:
    """Everything that is wrong. ``gid_index`` is the one that the model's settings fix, None when NCCL chooses."""
    known = [member for member in members if not member.error]
    found = [finding for member in known for finding in _of_pod(member)]
    found += [finding for member in known for hca in hcas for finding in _of_port(member, hca)]
    for hca in hcas:
        found += _differences(hca, {member.node: member.ports[hca] for member in known if _is_active(member, hca)})
    return found + _gids(known, hcas, gid_index)


def _of_pod(member: Member) -> Iterator[Finding]:
    given = member.pod
    if member.ports and all(port.transport != "rdma" for port in member.ports.values()):
        return  # No hardware: no memory is locked and no device file is opened.
    limit = -1 if given.memlock_bytes is None else given.memlock_bytes
    if given.can_lock_memory is False and 0 <= limit < _ENOUGH_LOCKED_BYTES:
        yield Finding("node", member.node, f"no IPC_LOCK, and only {limit // 2**10} KiB may be locked", "bad", _LOCK)
    if given.device_files is not None and not any(name.startswith("uverbs") for name in given.device_files):
        yield Finding("node", member.node, "no /dev/infiniband/uverbs* in the pod", "bad", _DEVICES)
    missing = list(given.networks)
    for attached in given.attachments or ():
        if attached.name in missing:
            missing.remove(attached.name)
    if missing and given.attachments is not None:
        detail = f"network-status lists no {', '.join(missing)}, which the pod asked for"
        yield Finding("node", member.node, detail, "bad", _NETWORKS)


def _is_active(member: Member, hca: str) -> bool:
    return hca in member.ports and member.ports[hca].state == "ACTIVE"


def _of_port(member: Member, hca: str) -> Iterator[Finding]:
    if hca not in member.ports:
        there = ", ".join(member.ports) or "none"
        remedy = "correct server.network.hcas, or see why the node lacks it: ibv_devinfo and lspci there"
        yield Finding("nic", member.node, f"{hca}: no such device; there is {there}", "bad", remedy)
    elif not _is_active(member, hca):
        state = member.ports[hca].state
        yield Finding("nic", member.node, f"{hca}: port is {state}, not ACTIVE: cable or NIC", "bad", _CABLE)


def _differences(hca: str, ports: Mapping[str, Port]) -> list[Finding]:
    found = []
    best_rate = max((port.rate_gbps or 0.0 for port in ports.values()), default=0.0)
    best_mtu = max((port.mtu_bytes or 0 for port in ports.values()), default=0)
    for node, port in ports.items():
        if port.rate_gbps is not None and port.rate_gbps < best_rate:
            detail = f"{hca}: port rate {port.rate_gbps:.4g} Gb/s, others {best_rate:.4g} Gb/s: cable or NIC"
            found.append(Finding("nic", node, detail, "bad", _CABLE))
        if port.mtu_bytes is not None and port.mtu_bytes < best_mtu:
            detail = f"{hca}: active MTU {port.mtu_bytes}, others {best_mtu}: MTU of its net device or switch port"
            found.append(Finding("nic", node, detail, "warn", _MTU))
    layers = {port.link_layer for port in ports.values()}
    if len(layers) > 1:
        remedy = "name devices of one fabric in server.network.hcas"
        found.append(Finding("setting", hca, f"link layers differ: {', '.join(sorted(layers))}", "bad", remedy))
    return found


def _gids(members: Sequence[Member], hcas: Sequence[str], gid_index: int | None) -> list[Finding]:
    """RoCE ports whose GID cannot be reached. A fault of all of them is one of a setting, not of so many NICs."""
    tables = [
        (member.node, hca, member.ports[hca])
        for member in members
        for hca in hcas
        if _is_active(member, hca) and member.ports[hca].gids and member.ports[hca].link_layer == "Ethernet"
    ]
    wrong = [(node, hca, why) for node, hca, port in tables if (why := _wrong_gid(port, gid_index))]
    remedy = _ADDRESS if gid_index is None else _INDEX
    if len(wrong) == len(tables) > 1:
        name = "GIDs" if gid_index is None else f"NCCL_IB_GID_INDEX={gid_index}"
        return [Finding("setting", name, f"on every port: {wrong[0][2]} ({wrong[0][0]} {wrong[0][1]})", "bad", remedy)]
    return [Finding("nic", node, f"{hca}: {why}", "bad", remedy) for node, hca, why in wrong]


def _wrong_gid(port: Port, gid_index: int | None) -> str:
    usual = [str(gid.index) for gid in port.gids if gid.is_usual]
    if not usual:
        return "no GID of RoCE v2 with an IPv4 address"
    if gid_index is None or str(gid_index) in usual:
        return ""
    chosen = next((gid for gid in port.gids if gid.index == gid_index), None)
    told = "empty" if chosen is None else f"RoCE v{chosen.roce_version} {chosen.ipv4 or 'without IPv4'}"
    return f"GID index {gid_index} is {told}; RoCE v2 with IPv4 is index {', '.join(usual)}"
