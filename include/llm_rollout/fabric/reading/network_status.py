"""Read the network-status annotation that multus writes: one row for each attached interface."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from llm_rollout.fabric.reading.outcome import Reading, Report, Row, concluded

ANNOTATIONS = ("k8s.v1.cni.cncf.io/network-status", "k8s.v1.cni.cncf.io/networks-status")
"""The second is the name that multus used before 2020."""


def read(text: str) -> Reading:
    """The reading of a clean text: the annotation's value, or the pod that carries it."""
    try:
        entries = _entries(json.loads(text))
    except (ValueError, RecursionError):
        return concluded(Report("network-status"))
    rows = [_row(entry) for entry in entries if isinstance(entry, Mapping)]
    named = bool(rows) and all(row["name"] for row in rows) and len(rows) == len(entries)
    return concluded(Report("network-status", rows, whole=named))


def _entries(loaded: Any) -> list[Any]:
    if isinstance(loaded, Mapping):
        metadata = loaded.get("metadata")
        annotations = metadata.get("annotations") if isinstance(metadata, Mapping) else None
        values = [annotations.get(name) for name in ANNOTATIONS] if isinstance(annotations, Mapping) else []
        written = next((value for value in values if isinstance(value, str)), None)
        loaded = json.loads(written) if written is not None else loaded
    return loaded if isinstance(loaded, list) else [loaded]


def _row(entry: Mapping[str, Any]) -> Row:
    info = entry.get("device-info")
    pci = info.get("pci") if isinstance(info, Mapping) else None
    pci = pci if isinstance(pci, Mapping) else {}
    addresses = entry.get("ips")
    return {
        "name": entry.get("name"),
        "interface": entry.get("interface"),
        "ips": [str(address) for address in addresses] if isinstance(addresses, list) else [],
        "mac": entry.get("mac"),
        "mtu": entry.get("mtu"),
        "default": entry.get("default") is True,
        "pci_address": pci.get("pci-address"),
        "rdma_device": pci.get("rdma-device"),
    }
