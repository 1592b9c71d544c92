"""Corrected lines of manifests, as YAML that a reader can paste.

Documents are parted by ``---``. The first line of each is a comment that says where its lines belong:

- ``# in KIND/NAME PATH``: into this block, under the rules of Kubernetes' strategic merge patches: keys are merged,
  null removes a key, items of a list are matched by name (or mountPath), ``$patch: delete`` removes one, and lists
  whose items have no such key are replaced.
- ``# beside KIND/NAME``: a whole manifest more; ``# instead of KIND/NAME``: one in its place, or none.

Further comment lines say what the reader has to fill in.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from llm_rollout.manifests.findings import Template

DELETE = "$patch"
"""``{"name": NAME, DELETE: "delete"}`` removes an item of a list."""


class _Dumper(yaml.SafeDumper):
    """Text of several lines as a block, so that JSON inside YAML stays readable."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - the base class asks for it
        """Write everything out: the reader of manifests refuses aliases."""
        return True


def _block(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = "|" if "\n" in value else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _block)


def inside(name: str, path: str, lines: Mapping[str, Any], remark: str = "") -> str:
    """Lines that go into a block of a manifest; ``name`` is KIND/NAME."""
    return _document(f"in {name} {path}".rstrip(), lines, remark)


def beside(name: str, manifest: Mapping[str, Any], remark: str = "") -> str:
    """A manifest more."""
    return _document(f"beside {name}", manifest, remark)


def instead(name: str, manifest: Mapping[str, Any] | None, remark: str = "") -> str:
    """A manifest in the place of another, or nothing."""
    return _document(f"instead of {name}", manifest, remark)


def together(*documents: str) -> str:
    """Several of these."""
    return "---\n".join(document for document in documents if document)


def in_container(template: Template, lines: Mapping[str, Any], remark: str = "") -> str:
    """Lines that go into the container that runs the engine."""
    return inside(template.name, template.at(), lines, remark)


def in_pod(template: Template, lines: Mapping[str, Any], remark: str = "") -> str:
    """Lines that go into the pod template: ``metadata`` and ``spec``."""
    return inside(template.name, template.path, lines, remark)


def variables(template: Template, values: Mapping[str, str | None], remark: str = "") -> str:
    """Environment variables with their right values; None removes one."""
    entries = [
        {"name": name, DELETE: "delete"} if value is None else {"name": name, "value": value}
        for name, value in values.items()
    ]
    return in_container(template, {"env": entries}, remark)


def nested(path: str, value: Any) -> dict[str, Any]:
    """``nested("a.b", 1)`` is ``{"a": {"b": 1}}``."""
    first, _, rest = path.partition(".")
    return {first: nested(rest, value) if rest else value}


def _document(place: str, lines: Mapping[str, Any] | None, remark: str) -> str:
    comments = [f"# {' '.join(line.split())}" for line in (place, *remark.splitlines())]
    body = "" if lines is None else yaml.dump(dict(lines), Dumper=_Dumper, sort_keys=False, width=1000)
    return "\n".join([*comments, body])
