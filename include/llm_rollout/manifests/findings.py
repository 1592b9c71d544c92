"""What a lint says about manifests, and the parts of manifests that the lints look at."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from llm_rollout.ports import Manifest


@dataclass(frozen=True)
class Finding:
    """One defect of one manifest."""

    code: str
    """The defect's stable name, such as K7."""
    manifest: str
    """KIND/NAME."""
    field_path: str
    value: Any
    message: str
    fix: str
    severity: Literal["error", "warning"] = "error"
    """An error does not work wherever it runs; a warning depends on what no manifest shows, or costs something."""


@dataclass(frozen=True)
class Template:
    """A pod template inside a manifest, with what the lints ask of its first container."""

    manifest: Manifest
    role: str
    """``leader`` or ``worker`` in a LeaderWorkerSet, else ``pod``."""
    path: str
    body: Mapping[str, Any]

    @property
    def name(self) -> str:
        """KIND/NAME of the manifest."""
        return manifest_name(self.manifest)

    @property
    def namespace(self) -> str:
        """The manifest's namespace."""
        return namespace_of(self.manifest)

    @property
    def annotations(self) -> Mapping[str, str]:
        """The pods' annotations."""
        found: Mapping[str, str] = at(self.body, "metadata", "annotations") or {}
        return found

    @property
    def container(self) -> Mapping[str, Any]:
        """The first container: engines run in it."""
        containers = at(self.body, "spec", "containers") or [{}]
        return containers[0] if isinstance(containers[0], dict) else {}

    @property
    def env(self) -> dict[str, str]:
        """Variables with plain values."""
        entries = [entry for entry in self.container.get("env") or () if isinstance(entry, dict)]
        return {str(entry.get("name")): str(entry.get("value", "")) for entry in entries}

    @property
    def limits(self) -> Mapping[str, Any]:
        """Limits and requests together."""
        resources = self.container.get("resources") or {}
        return {**(resources.get("requests") or {}), **(resources.get("limits") or {})}

    @property
    def arguments(self) -> list[str]:
        """Command and arguments as words; a script given to a shell is split into its words too."""
        words = [str(word) for part in ("command", "args") for word in self.container.get(part) or ()]
        return [piece for word in words for piece in (_split(word) if " " in word else [word])]

    def at(self, *path: str) -> str:
        """The path of a field of the first container."""
        inside = () if is_env_block(self.manifest) else (self.path, "spec.containers[0]")
        return ".".join((*inside, *path))

    def finding(self, code: str, field_path: str, value: Any, advice: tuple[str, str]) -> Finding:
        """A finding about this template; ``advice`` is message and fix."""
        return Finding(code, self.name, field_path, value, *advice)

    def warning(self, code: str, field_path: str, value: Any, advice: tuple[str, str]) -> Finding:
        """A finding that is no error."""
        return Finding(code, self.name, field_path, value, *advice, severity="warning")


def templates(manifests: Sequence[Manifest]) -> Iterator[Template]:
    """All pod templates."""
    for manifest in manifests:
        if manifest.get("kind") == "LeaderWorkerSet":
            yield from _group_templates(manifest)
        elif is_env_block(manifest):
            yield Template(manifest, "pod", "env", {"spec": {"containers": [manifest]}})
        elif at(manifest, "spec", "template"):
            yield Template(manifest, "pod", "spec.template", at(manifest, "spec", "template"))


def of_kind(manifests: Sequence[Manifest], kind: str) -> list[Manifest]:
    """The manifests of one kind."""
    return [manifest for manifest in manifests if manifest.get("kind") == kind]


def is_env_block(manifest: Manifest) -> bool:
    """Whether this is no manifest but a list of variables as articles print them."""
    return "kind" not in manifest and isinstance(manifest.get("env"), list)


def at(value: Any, *path: str) -> Any:
    """What stands at a path, None where the path breaks off."""
    for part in path:
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def manifest_name(manifest: Manifest) -> str:
    """KIND/NAME."""
    if is_env_block(manifest):
        return "env block"
    return f"{manifest.get('kind')}/{at(manifest, 'metadata', 'name')}"


def namespace_of(manifest: Manifest) -> str:
    """The namespace, ``default`` where none is given."""
    return str(at(manifest, "metadata", "namespace") or "default")


def flags_of(arguments: Sequence[str]) -> dict[str, str]:
    """Flags and their values, whether written ``--a=b`` or ``--a b``."""
    flags: dict[str, str] = {}
    for index, word in enumerate(arguments):
        if not word.startswith("--"):
            continue
        name, sign, value = word.partition("=")
        following = arguments[index + 1] if index + 1 < len(arguments) else ""
        flags[name.replace("_", "-")] = value if sign or following.startswith("-") else following
    return flags


def _group_templates(manifest: Manifest) -> Iterator[Template]:
    """Leader and worker; without a leader template the worker's serves for both."""
    group = at(manifest, "spec", "leaderWorkerTemplate") or {}
    path = "spec.leaderWorkerTemplate"
    roles = (("leader", "leaderTemplate"), ("worker", "workerTemplate"))
    for role, key in roles:
        if isinstance(group.get(key), dict):
            yield Template(manifest, role, f"{path}.{key}", group[key])


def _split(text: str) -> list[str]:
    try:
        return shlex.split(re.sub(r"[;&|]+", " ", text))
    except ValueError:
        return text.split()
