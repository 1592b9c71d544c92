"""What a lint says about manifests, and the parts of manifests that the lints look at.

Manifests come from people: every accessor here takes a value of any shape and answers with an empty one where the
shape is not what Kubernetes asks for, so that a lint never fails on what it should judge.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
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
    value: Any = field(hash=False)
    message: str
    fix: str
    severity: Literal["error", "warning"] = "error"
    """An error does not work wherever it runs; a warning depends on what no manifest shows, or costs something."""
    corrected: str = ""
    """The corrected lines as YAML, in the form of :mod:`llm_rollout.manifests.corrections`; "" where only a
    measurement can tell what is right."""


@dataclass(frozen=True)
class Template:
    """A pod template inside a manifest, with what the lints ask of the container that runs the engine."""

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
    def annotations(self) -> dict[str, Any]:
        """The pods' annotations."""
        return mapping(at(self.body, "metadata", "annotations"))

    @property
    def index(self) -> int:
        """Which container runs the engine: the first that asks for a GPU, else the first."""
        asking = (number for number, one in enumerate(self._containers) if "nvidia.com/gpu" in _quantities(one))
        return next(asking, 0)

    @property
    def container(self) -> dict[str, Any]:
        """The container that runs the engine."""
        containers = self._containers
        return mapping(containers[self.index]) if containers else {}

    @property
    def env(self) -> dict[str, str]:
        """Variables; one whose value comes from elsewhere is "", for its value is not known here."""
        return {str(entry.get("name")): text(entry.get("value")) for entry in mappings(self.container.get("env"))}

    @property
    def limits(self) -> dict[str, Any]:
        """Limits and requests together."""
        return _quantities(self.container)

    @property
    def arguments(self) -> list[str]:
        """Command and arguments as words; a script given to a shell is split into its words too."""
        words = [text(word) for part in ("command", "args") for word in items(self.container.get(part))]
        return [piece for word in words for piece in (_split(word) if " " in word else [word])]

    def at(self, *path: str) -> str:
        """The path of a field of the container that runs the engine."""
        inside = () if is_env_block(self.manifest) else (self.path, f"spec.containers[{self.index}]")
        return joined(*inside, *path)

    def finding(self, code: str, field_path: str, value: Any, advice: tuple[str, str], corrected: str = "") -> Finding:
        """A finding about this template; ``advice`` is message and fix."""
        return Finding(code, self.name, field_path, value, *advice, corrected=corrected)

    def warning(self, code: str, field_path: str, value: Any, advice: tuple[str, str], corrected: str = "") -> Finding:
        """A finding that is no error."""
        return Finding(code, self.name, field_path, value, *advice, severity="warning", corrected=corrected)

    @property
    def _containers(self) -> list[Any]:
        return items(at(self.body, "spec", "containers"))


def templates(manifests: Sequence[Manifest]) -> Iterator[Template]:
    """All pod templates, and pods themselves."""
    for manifest in manifests:
        if manifest.get("kind") == "LeaderWorkerSet":
            yield from _group_templates(manifest)
        elif is_env_block(manifest):
            yield Template(manifest, "pod", "env", {"spec": {"containers": [manifest]}})
        elif manifest.get("kind") == "Pod":
            yield Template(manifest, "pod", "", manifest)
        elif isinstance(at(manifest, "spec", "template"), Mapping):
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


def mapping(value: Any) -> dict[str, Any]:
    """The mapping, with its keys as text; {} for anything else."""
    return {str(key): one for key, one in value.items()} if isinstance(value, Mapping) else {}


def items(value: Any) -> list[Any]:
    """The list; [] for anything else."""
    return value if isinstance(value, list) else []


def mappings(value: Any) -> list[dict[str, Any]]:
    """The mappings of a list."""
    return [mapping(one) for one in items(value) if isinstance(one, Mapping)]


def text(value: Any) -> str:
    """The scalar as text; "" for None, lists and mappings."""
    return "" if value is None or isinstance(value, (list, Mapping)) else str(value)


def number(value: Any, default: int = 0) -> int:
    """The whole number, also when it is written as text; ``default`` for anything else."""
    return int(text(value)) if re.fullmatch(r"\d{1,9}", text(value)) else default


def manifest_name(manifest: Manifest) -> str:
    """KIND/NAME."""
    if is_env_block(manifest):
        return "env block"
    return f"{text(manifest.get('kind'))}/{own_name(manifest)}"


def own_name(manifest: Manifest) -> str:
    """The name without its kind."""
    return text(at(manifest, "metadata", "name"))


def namespace_of(manifest: Manifest) -> str:
    """The namespace, ``default`` where none is given."""
    return text(at(manifest, "metadata", "namespace")) or "default"


def joined(*parts: str) -> str:
    """Parts of a path, dotted; empty ones do not count."""
    return ".".join(part for part in parts if part)


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


def _quantities(container: Any) -> dict[str, Any]:
    resources = at(container, "resources")
    return {**mapping(at(resources, "requests")), **mapping(at(resources, "limits"))}


def _group_templates(manifest: Manifest) -> Iterator[Template]:
    """Leader and worker; without a leader template the worker's serves for both."""
    group = at(manifest, "spec", "leaderWorkerTemplate")
    path = "spec.leaderWorkerTemplate"
    for role, key in (("leader", "leaderTemplate"), ("worker", "workerTemplate")):
        if isinstance(at(group, key), Mapping):
            yield Template(manifest, role, f"{path}.{key}", at(group, key))


def _split(script: str) -> list[str]:
    try:
        return shlex.split(re.sub(r"[;&|]+", " ", script))
    except ValueError:
        return script.split()
