"""Environment, command line and volumes of a container, resolved as a kubelet does it."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from devcluster.api import Api, ApiError
from devcluster.layout import Layout, node_address
from devcluster.node.sandbox import PATH, Mount

_REFERENCE = re.compile(r"\$(\$|\(([^)]+)\))")
_KEYED = re.compile(r"metadata\.(labels|annotations)\['([^']+)'\]$")

Object = Mapping[str, Any]


class ConfigError(Exception):
    """A container cannot be made as its pod asks; the text is what a kubelet would put into the status."""


class VolumeError(Exception):
    """A volume cannot be mounted; the text is what a kubelet's event says."""


def expand(text: str, env: Mapping[str, str]) -> str:
    """Replace ``$(NAME)``; ``$$`` is a dollar sign, an unknown name stays as it is."""

    def value(match: re.Match[str]) -> str:
        return "$" if match[1] == "$" else env.get(match[2], match[0])

    return _REFERENCE.sub(value, text)


def argv(container: Object, env: Mapping[str, str]) -> list[str]:
    """The command line. Images mean nothing here, so there is no entrypoint to fall back to."""
    if not container.get("command"):
        raise ConfigError(f"image {container['image']} is not real here: set command for {container['name']}")
    parts = [*container["command"], *(container.get("args") or ())]
    return [expand(part, env) for part in parts]


class Resolver:
    """Reads ConfigMaps and Secrets for one pod."""

    def __init__(self, api: Api, layout: Layout, pod: Object, address: str) -> None:
        self._api = api
        self._layout = layout
        self._pod = pod
        self._address = address
        self._folder = layout.pods / pod["metadata"]["uid"]

    async def environment(self, container: Object) -> dict[str, str]:
        """All variables, later ones seeing earlier ones."""
        env = {"PATH": PATH, "HOME": "/root", "LANG": "C.UTF-8", "HOSTNAME": self.hostname}
        env |= {"DEVCLUSTER_NODE": self._pod["spec"]["nodeName"]}
        for source in container.get("envFrom") or ():
            for kind, reference in source.items():
                if kind != "prefix":
                    values = await self._keys(kind.removesuffix("Ref"), reference)
                    env |= {source.get("prefix", "") + key: text.decode() for key, text in values.items()}
        for item in container.get("env") or ():
            if "valueFrom" not in item:
                env[item["name"]] = expand(item.get("value") or "", env)
            elif (value := await self._value(item["valueFrom"])) is not None:
                env[item["name"]] = value
        return env

    @property
    def hostname(self) -> str:
        """The pod's host name."""
        return str(self._pod["spec"].get("hostname") or self._pod["metadata"]["name"])

    async def mounts(self, container: Object) -> list[Mount]:
        """The container's volume mounts, outer ones first."""
        volumes = {volume["name"]: volume for volume in self._pod["spec"].get("volumes") or ()}
        mounts = []
        for mount in sorted(container.get("volumeMounts") or (), key=lambda item: str(item["mountPath"])):
            if "subPathExpr" in mount:
                raise ConfigError(f"subPathExpr of {mount['mountPath']} is not known here: use subPath")
            source, read_only = await self._volume(volumes[mount["name"]])
            if sub_path := mount.get("subPath"):
                source = source / sub_path
                if not source.exists():
                    source.mkdir(parents=True)
            mounts.append(Mount(source, mount["mountPath"], bool(mount.get("readOnly")) or read_only))
        return mounts

    async def _value(self, source: Object) -> str | None:
        if field := source.get("fieldRef"):
            return self._field(field["fieldPath"])
        for kind in ("configMap", "secret"):
            if reference := source.get(f"{kind}KeyRef"):
                values = await self._keys(kind, reference)
                if reference["key"] in values:
                    return values[reference["key"]].decode()
                if reference.get("optional"):
                    return None
                raise ConfigError(f"couldn't find key {reference['key']} in {kind} {reference['name']}")
        raise ConfigError(f"valueFrom {', '.join(source)} is not known here")

    def _field(self, path: str) -> str:
        metadata, spec = self._pod["metadata"], self._pod["spec"]
        if match := _KEYED.match(path):
            return str((metadata.get(match[1]) or {}).get(match[2], ""))
        values = {
            "metadata.name": metadata["name"],
            "metadata.namespace": metadata["namespace"],
            "metadata.uid": metadata["uid"],
            "spec.nodeName": spec["nodeName"],
            "spec.serviceAccountName": spec.get("serviceAccountName", "default"),
            "status.podIP": self._address,
            "status.podIPs": self._address,
            "status.hostIP": node_address(spec["nodeName"]),
        }
        if path not in values:
            raise ConfigError(f"fieldPath {path} is not known here")
        return str(values[path])

    async def _keys(self, kind: str, reference: Object) -> dict[str, bytes]:
        namespace = self._pod["metadata"]["namespace"]
        try:
            found = await self._api.get(f"/api/v1/namespaces/{namespace}/{kind.lower()}s/{reference['name']}")
        except ApiError as error:
            if error.status != httpx.codes.NOT_FOUND:
                raise ConfigError(str(error)) from error
            if reference.get("optional"):
                return {}
            raise ConfigError(f'{kind.lower()} "{reference["name"]}" not found') from error
        data = found.get("data") or {}
        if kind == "secret":
            return {key: base64.b64decode(text) for key, text in data.items()}
        binary = {key: base64.b64decode(text) for key, text in (found.get("binaryData") or {}).items()}
        return {key: text.encode() for key, text in data.items()} | binary

    async def _volume(self, volume: Object) -> tuple[Path, bool]:
        """Where a volume lies on this machine, and whether it can only be read."""
        own = self._folder / "volumes" / volume["name"]
        own.mkdir(parents=True, exist_ok=True)
        if claim := volume.get("persistentVolumeClaim"):
            folder = self._layout.volume(self._pod["metadata"]["namespace"], claim["claimName"])
            if not folder.is_dir():
                raise ConfigError(f'persistentvolumeclaim "{claim["claimName"]}" not found')
            return folder, bool(claim.get("readOnly"))
        if "emptyDir" in volume or "hostPath" in volume:
            return own, False
        for source in (volume.get("projected") or {}).get("sources", [volume]):
            try:
                await self._fill(own, source)
            except ConfigError as error:
                raise VolumeError(f'MountVolume.SetUp failed for volume "{volume["name"]}" : {error}') from error
        return own, True

    async def _fill(self, folder: Path, source: Object) -> None:
        for kind in ("configMap", "secret"):
            if reference := source.get(kind):
                named = {**reference, "name": reference.get("name") or reference.get("secretName")}
                _write(folder, await self._keys(kind, named), reference.get("items"))
        for item in (source.get("downwardAPI") or {}).get("items", ()):
            if "fieldRef" in item:
                target = folder / item["path"]
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(self._field(item["fieldRef"]["fieldPath"]))


def _write(folder: Path, values: Mapping[str, bytes], items: Sequence[Object] | None) -> None:
    chosen = {item["path"]: values[item["key"]] for item in items if item["key"] in values} if items else values
    for path, content in chosen.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
