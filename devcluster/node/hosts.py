"""Names: one hosts file for each namespace, rewritten in place as pods and Services come and go."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from devcluster.layout import Layout

_LOCAL = "127.0.0.1 localhost\n"


class Hosts:
    """The hosts files. They are bound into containers, so their inodes stay."""

    def __init__(self, layout: Layout) -> None:
        self._folder = layout.home / "hosts"
        self._folder.mkdir(exist_ok=True)
        self._services: dict[str, list[str]] = {}
        self._pods: dict[str, tuple[str, str]] = {}
        self._written: dict[str, str] = {}

    def file(self, namespace: str) -> Path:
        """The file of a namespace; made when first asked for."""
        path = self._folder / namespace
        if namespace not in self._written:
            self._write(namespace)
        return path

    def add_pod(self, pod: Mapping[str, Any], address: str) -> None:
        """Name a pod that has an address now."""
        namespace = pod["metadata"]["namespace"]
        self._pods[pod["metadata"]["uid"]] = (namespace, f"{address} {' '.join(_pod_names(pod))}\n")
        self._write(namespace)

    def remove_pod(self, uid: str) -> None:
        """Forget a pod."""
        namespace, _ = self._pods.pop(uid, ("", ""))
        if namespace:
            self._write(namespace)

    def set_services(self, services: Iterable[Mapping[str, Any]]) -> None:
        """Name all Services that have an address."""
        lines: dict[str, list[str]] = {}
        for service in services:
            address = service["spec"].get("clusterIP")
            if address and address != "None":
                namespace, name = service["metadata"]["namespace"], service["metadata"]["name"]
                full = f"{name}.{namespace}"
                entry = f"{address} {name} {full} {full}.svc {full}.svc.cluster.local\n"
                lines.setdefault(namespace, []).append(entry)
        self._services = lines
        for namespace in {*self._written, *lines}:
            self._write(namespace)

    def _write(self, namespace: str) -> None:
        pods = [line for where, line in self._pods.values() if where == namespace]
        elsewhere = [line for where, names in self._services.items() if where != namespace for line in names]
        foreign = [_without_short_name(line) for line in elsewhere]
        text = "".join([_LOCAL, *self._services.get(namespace, []), *pods, *foreign])
        if self._written.get(namespace) == text:
            return
        self._written[namespace] = text
        descriptor = os.open(self._folder / namespace, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            # Written over, then cut: a reader never finds the file empty.
            os.pwrite(descriptor, text.encode(), 0)
            os.ftruncate(descriptor, len(text.encode()))
        finally:
            os.close(descriptor)


def _pod_names(pod: Mapping[str, Any]) -> list[str]:
    metadata, spec = pod["metadata"], pod["spec"]
    hostname = spec.get("hostname") or metadata["name"]
    if not spec.get("subdomain"):
        return [hostname]
    short = f"{hostname}.{spec['subdomain']}"
    full = f"{short}.{metadata['namespace']}"
    return [hostname, short, full, f"{full}.svc", f"{full}.svc.cluster.local"]


def _without_short_name(line: str) -> str:
    address, _, *names = line.split()
    return f"{address} {' '.join(names)}\n"
