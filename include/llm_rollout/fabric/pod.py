"""What a pod was given to use RDMA with: locked memory, device files, network attachments."""

from __future__ import annotations

import json
import re
import resource
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_IPC_LOCK = 14
"""CAP_IPC_LOCK, capabilities(7)."""
NETWORKS_FILE = "networks"
"""The annotation ``k8s.v1.cni.cncf.io/networks``, what was asked for, as a file of a downward API volume."""
STATUS_FILE = "network-status"
"""The annotation ``k8s.v1.cni.cncf.io/network-status``, what Multus attached."""


@dataclass(frozen=True)
class Attachment:
    """One entry of the network status: an interface of the pod."""

    name: str
    interface: str
    ips: tuple[str, ...]
    mtu_bytes: int | None


@dataclass(frozen=True)
class Pod:
    """None: could not be read, which is never held against a node."""

    can_lock_memory: bool | None = None
    """Whether the tools have IPC_LOCK, by the process or by a file capability that the pod's bounding set allows."""
    memlock_bytes: int | None = None
    """The limit of locked memory; -1: none."""
    device_files: tuple[str, ...] | None = None
    """Names in /dev/infiniband."""
    networks: tuple[str, ...] = ()
    """Attachments that were asked for."""
    attachments: tuple[Attachment, ...] | None = None
    interfaces: tuple[str, ...] = field(default=())
    """Network interfaces in the pod's network namespace."""


NOT_READ = Pod()


def read(annotations: Path | None = None, root: Path = Path("/")) -> Pod:
    """This pod. ``annotations`` is the folder with ``networks`` and ``network-status``, where there is one."""
    devices = root / "dev/infiniband"
    return Pod(
        can_lock_memory=can_lock_memory(_text(root / "proc/self/status")),
        memlock_bytes=resource.getrlimit(resource.RLIMIT_MEMLOCK)[0],
        device_files=tuple(sorted(entry.name for entry in devices.iterdir())) if devices.is_dir() else (),
        networks=asked_for(_text(annotations / NETWORKS_FILE)) if annotations else (),
        attachments=attachments(_text(annotations / STATUS_FILE)) if annotations else None,
        interfaces=tuple(name for _, name in socket.if_nameindex()),
    )


def can_lock_memory(status: str) -> bool | None:
    """From /proc/self/status; None when it does not say.

    A process that is not root may have IPC_LOCK in its bounding set only: a tool with the file capability then gets
    it, unless the pod forbids new privileges.
    """
    fields = dict(re.findall(r"^(\w+):\s*(\S+)$", status, re.MULTILINE))
    try:
        effective, bounding = (int(fields[name], 16) >> _IPC_LOCK & 1 for name in ("CapEff", "CapBnd"))
    except (KeyError, ValueError):
        return None
    return bool(effective or (bounding and fields.get("NoNewPrivs") != "1"))


def asked_for(annotation: str) -> tuple[str, ...]:
    """Names of the ``networks`` annotation: a comma list of ``[namespace/]name[@interface]`` or JSON objects."""
    text = annotation.strip()
    if text.startswith("["):
        try:
            return tuple(str(entry["name"]) for entry in json.loads(text))
        except (ValueError, KeyError, TypeError):
            return ()
    names = (part.strip().partition("@")[0].rpartition("/")[2] for part in text.split(","))
    return tuple(name for name in names if name)


def attachments(annotation: str) -> tuple[Attachment, ...] | None:
    """Entries of the ``network-status`` annotation but the cluster network; None when there is none that reads."""
    try:
        entries = json.loads(annotation)
        return tuple(_attachment(entry) for entry in entries if not entry.get("default"))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def pod_from_json(value: Mapping[str, Any]) -> Pod:
    """The inverse of ``dataclasses.asdict``."""
    attached = value.get("attachments")
    files = value.get("device_files")
    return Pod(
        can_lock_memory=value.get("can_lock_memory"),
        memlock_bytes=value.get("memlock_bytes"),
        device_files=None if files is None else tuple(files),
        networks=tuple(value.get("networks", ())),
        attachments=None if attached is None else tuple(_attached(one) for one in attached),
        interfaces=tuple(value.get("interfaces", ())),
    )


def _attached(value: Mapping[str, Any]) -> Attachment:
    return Attachment(**{**value, "ips": tuple(value["ips"])})


def _attachment(entry: Mapping[str, Any]) -> Attachment:
    name = str(entry["name"]).rpartition("/")[2]
    mtu = entry.get("mtu")
    return Attachment(
        name, str(entry.get("interface", "")), tuple(map(str, entry.get("ips") or ())), int(mtu) if mtu else None
    )


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
