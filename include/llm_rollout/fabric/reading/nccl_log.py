"""Read an NCCL log (NCCL_DEBUG=INFO): over what the ranks are connected, and what failed.

NCCL falls back to sockets without an error, so the transport must be read. A log has no end: ``ok`` says that every
communicator that was begun came up, and over RDMA, as far as the log goes. Words: NCCL 2.4 to 2.30.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from llm_rollout.fabric.reading import causes
from llm_rollout.fabric.reading.causes import Cause, places, sign
from llm_rollout.fabric.reading.outcome import SIMULATED, Reading, Report, Row, Transport, concluded, link_transport

_VIA = re.compile(r"via NET/([^/\n]{1,40})/(\d+)(?:\((?:\d+|PCI)\))?((?:/\w{1,12}(?:\(\w+\))?)*)")
_DEVICE = re.compile(r"\[(\d+)\]\{?([\w.-]+):\d+/(RoCE|IB)\b")
_PROCESS = re.compile(r"^\S*?([\w.-]+:\d+):\d+ ")
_NETWORK = re.compile(r"(?:Using (?:internal )?[Nn]etwork|Initialized NET plugin|Assigned NET plugin) ([^\n]{1,60})")
_SHOWN_CONNECTIONS = 64

SIGNS = (
    sign("image", "libibverbs.so", r"Failed to open libibverbs\.so\S*"),
    sign("ifname", "Bootstrap : no socket interface found"),
    sign("ifname", "no interface found", r"NET/Socket ?: no interface found"),
    sign("ifname", "No usable listening interface found"),
    sign("ifname", "No IP interface found"),
    sign("port", "port error", r"async (?:fatal )?event: [^\n]{0,40}port error"),
    sign("no-device", "Failed to initialize any NET plugin"),
    sign("memlock", "Call to ibv_", r"Call to ibv_\w+ failed[^\n]{0,40}Cannot allocate memory"),
    sign(
        "gid",
        "Call to ibv_modify_qp failed",
        r"Call to ibv_modify_qp failed(?![^\n]{0,60}Cannot allocate)(?![^\n]{0,200}retrying)[^\n]{0,80}",
    ),
    sign("gid", "ncclIbRoceGetVersionNum", r"ncclIbRoceGetVersionNum: |failed in ncclIbRoceGetVersionNum"),
    sign("gid", "GID table changed"),
    sign("gdr-missing", "Call to ibv_reg_", r"Call to ibv_reg_\w+ failed[^\n]{0,40}Bad address"),
    sign("access", "local protection error"),
    sign("oob", "ocketStartConnect", r"ocketStartConnect: Connect to [^\n]{0,80} failed"),
    sign("oob", "Connection closed by remote peer"),
    sign("oob", "Call to connect", r"Call to connect[^\n]{0,80} failed"),
    sign("other", "Call to ibv_", r"Call to ibv_\w+ failed(?![^\n]{0,200}(?:retrying|not supported))[^\n]{0,80}"),
    sign("other", "async", r"async fatal event[^\n]{0,80}"),
    sign("other", "unhandled system error"),
    sign("other", "unhandled cuda error"),
    sign("other", "internal error", r"ncclInternalError|NCCL[^\n]{0,80}internal error"),
    sign("other", "ncclSystemError"),
    sign("other", "ncclRemoteError"),
    *causes.SHARED,
)


_NO_LIBRARY = sign("image", "not open libibverbs.so")
"""NCCL 2.30 says so of each name that it tries, so it means something only where sockets are the end."""


@dataclass(frozen=True)
class Seen:
    """What the log says of its network: None when nothing."""

    transport: Transport | None
    causes: Sequence[Cause]
    rows: Sequence[Row]


def read(text: str) -> Reading:
    """The reading of a clean text."""
    log = seen(text)
    failed = [*causes.completions(text), *causes.found(text, SIGNS), *log.causes]
    if log.transport is None and "NET/IB : No device found" in text:
        failed.append(Cause("no-device", "NET/IB : No device found"))
    return concluded(Report("nccl-log", log.rows, failed, _came_up(text, log), log.transport))


def seen(text: str) -> Seen:
    """The connections in ``text`` and the transport they prove, also in the output of another tool."""
    connections = _connections(text)
    rows = [{"via": f"NET/{net}/{device}{rest}", "connections": count}
            for (net, device, rest), count in connections.most_common(_SHOWN_CONNECTIONS)]  # fmt: skip
    transport = _transport(text, connections)
    library = causes.found(text, [_NO_LIBRARY] if transport == "socket" else [])
    return Seen(transport, [*library, *_without_gpu_direct(text, connections)], rows)


def _connections(text: str) -> Counter[tuple[str, str, str]]:
    """How often each network, device and kind was used. A last line may be cut before it says GDRDMA."""
    found: Counter[tuple[str, str, str]] = Counter()
    for match in _VIA.finditer(text):
        if match.end() < len(text) or not found:
            found[match.group(1), match.group(2), match.group(3)] += 1
    return found


def _without_gpu_direct(text: str, connections: Counter[tuple[str, str, str]]) -> Iterator[Cause]:
    rdma = [rest for net, _, rest in connections if net.startswith("IB")]
    if any("GDRDMA" not in rest for rest in rdma):
        yield Cause("no-gdr", "a connection without GDRDMA")
    elif not rdma:
        yield from causes.found(text, [sign("no-gdr", "GPU Direct RDMA Disabled for HCA")])


def _transport(text: str, connections: Counter[tuple[str, str, str]]) -> Transport | None:
    networks = {net for net, _, _ in connections} or _networks(text)
    if SIMULATED in text:
        return "other"
    if "Socket" in networks | _networks(text) or _socket_processes(text):
        return "socket"
    using = _using(text)
    if any(net.startswith("IB") for net in networks) or using:
        used = {device for net, device, _ in connections if net.startswith("IB")}
        chosen = [each for each in using if each[0] in used] or using
        return link_transport({layer for _, _, layer in chosen}, {name for _, name, _ in chosen})
    return "other" if networks else None


def _networks(text: str) -> set[str]:
    """What NCCL says it uses. One rank on sockets is enough."""
    found = {
        match.group(1).split(" to comm")[0].strip()
        for needle in ("Using network", "Using internal", "NET plugin")
        for place in places(text, needle)
        if (match := _NETWORK.search(place)) and "Failed" not in place
    }
    return {name for name in found if name}


def _using(text: str) -> list[tuple[str, str, str]]:
    """Number, name and link layer of every RDMA device that a rank may use."""
    found: set[tuple[str, str, str]] = set()
    for place in places(text, "NET/IB : Using"):
        found.update(_DEVICE.findall(place))
    return sorted(found)


def _socket_processes(text: str) -> set[str]:
    """Processes that opened sockets and no other network. NCCL before 2.5 opens sockets beside the one that it uses."""
    suspects = {_process(place) for place in places(text, "NET/Socket : Using [")}
    for words in ("NET/IB : Using", "via NET/"):
        suspects -= {_process(place) for place in places(text, words)} if suspects else set()
    return suspects


def _process(place: str) -> str:
    found = _PROCESS.match(place)
    return found.group(1) if found else ""


def _came_up(text: str, log: Seen) -> bool:
    """Connections were made, or initialisation ended; no rank that began is missing."""
    begun, done = text.count("Init START"), text.count("Init COMPLETE")
    return log.transport is not None and begun <= done and bool(log.rows or done)
