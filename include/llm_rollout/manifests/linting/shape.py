"""Whether manifests have the shape that the lints read: a value of the wrong type is named, not guessed at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from llm_rollout.manifests.findings import at, joined, templates
from llm_rollout.ports import Manifest

_MANIFEST = {"metadata": dict, "metadata.annotations": dict, "metadata.labels": dict, "spec": dict}
_KINDS: dict[str, dict[str, type]] = {
    "LeaderWorkerSet": {
        "spec.leaderWorkerTemplate": dict,
        "spec.leaderWorkerTemplate.leaderTemplate": dict,
        "spec.leaderWorkerTemplate.workerTemplate": dict,
    },
    "NetworkAttachmentDefinition": {"spec.config": str},
    "Service": {"spec.selector": dict},
}
_POD = {"metadata": dict, "metadata.annotations": dict, "spec": dict, "spec.containers": list, "spec.volumes": list}
_CONTAINER = {
    "command": list,
    "args": list,
    "env": list,
    "image": str,
    "resources": dict,
    "resources.limits": dict,
    "resources.requests": dict,
    "securityContext": dict,
    "securityContext.capabilities": dict,
    "securityContext.capabilities.add": list,
    "volumeMounts": list,
    "startupProbe": dict,
    "livenessProbe": dict,
    "readinessProbe": dict,
}
_OF_OBJECTS = ("env", "volumeMounts")
_NAMES: dict[type, str] = {dict: "an object", list: "a list", str: "text"}


def misshapen(manifest: Manifest) -> str:
    """The first value that has the wrong type, as ``PATH is not a list``; "" where all is well."""
    return next(_wrong(manifest), "")


def _wrong(manifest: Manifest) -> Iterator[str]:
    kind = manifest.get("kind")
    yield from _against(manifest, {**_MANIFEST, **(_KINDS.get(kind, {}) if isinstance(kind, str) else {})}, "")
    for template in templates([manifest]):
        yield from _against(template.body, _POD, template.path)
        containers = at(template.body, "spec", "containers")
        path = joined(template.path, "spec.containers")
        for index, container in enumerate(containers if isinstance(containers, list) else ()):
            yield from _in_container(container, f"{path}[{index}]")


def _in_container(container: Any, path: str) -> Iterator[str]:
    if not isinstance(container, Mapping):
        yield f"{path} is not an object"
        return
    yield from _against(container, _CONTAINER, path)
    for key in _OF_OBJECTS:
        if any(not isinstance(one, Mapping) for one in container.get(key) or ()):
            yield f"{path}.{key} is not a list of objects"


def _against(value: Any, shapes: Mapping[str, type], path: str) -> Iterator[str]:
    for field, shape in shapes.items():
        found = at(value, *field.split("."))
        if found is not None and not isinstance(found, shape):
            yield f"{joined(path, field)} is not {_NAMES[shape]}"
