"""Read YAML files as people mean them.

YAML 1.1, which PyYAML speaks, reads ``22:00`` as 1320, ``no`` as false and ``2026-11-24`` as a date. Here only
``true``, ``false``, ``null`` and plain numbers are more than text, as in YAML 1.2. A key that stands twice is an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from llm_rollout.spec_problems import NO_VALUE, Problem, SpecError, field_path, file_problem

_LARGEST_BYTES = 1 << 20
"""A spec has a few kilobytes, the manifests of a whole application some hundred: more is the wrong file."""

_DEEPEST = 50
"""libyaml's loader crashes the process on text that is nested some ten thousand levels deep."""

_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_Base):  # type: ignore[misc]
    """The safe loader (libyaml's where it is built in, ten times faster) with the scalars of YAML 1.2."""

    yaml_implicit_resolvers: dict[str, list[Any]] = {}  # noqa: RUF012


for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?(0|[1-9][0-9]*)", "-+0123456789"),
    (
        "float",
        r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf)|\.(nan|NaN)",
        "-+.0123456789",
    ),
    ("merge", r"<<", "<"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first))


@dataclass(frozen=True)
class Document:
    """One YAML document and the keys that stand in it twice."""

    value: Any
    duplicates: tuple[str, ...]


def read_documents(path: Path) -> list[Document]:
    """All documents of a file that are not empty.

    Raises:
        SpecError: The file cannot be read, or is not YAML text.
    """
    text = _text(path)
    try:
        return [document for document in _documents(text) if document.value is not None]
    except yaml.YAMLError as error:
        raise SpecError([file_problem(path, f"not YAML: {_where(error)}", "correct the syntax there")]) from error
    except ValueError as error:
        raise SpecError([file_problem(path, f"not YAML: {error}", "correct the value")]) from error


def duplicate_problems(path: Path, document: Document) -> list[Problem]:
    """Keys that stand twice: YAML would silently take the last."""
    message, remedy = "the key stands twice and only the last would count", "remove one of them"
    return [Problem(str(path), key, NO_VALUE, message, remedy) for key in document.duplicates]


def _text(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            data = stream.read(_LARGEST_BYTES + 1)
        text = data.decode()
    except OSError as error:
        raise SpecError([file_problem(path, f"cannot be read: {error.strerror}", "check path and rights")]) from error
    except UnicodeDecodeError as error:
        raise SpecError([file_problem(path, "not text in UTF-8", "give a YAML file")]) from error
    if len(data) > _LARGEST_BYTES:
        raise SpecError([file_problem(path, f"larger than {_LARGEST_BYTES} bytes", "give a YAML file of a spec")])
    return text


def _documents(text: str) -> Iterator[Document]:
    _refuse_traps(text)
    loader = _Loader(text)
    try:
        while loader.check_node():
            node = loader.get_node()
            yield Document(loader.construct_document(node), tuple(_duplicates(node, ())))
    finally:
        loader.dispose()


def _refuse_traps(text: str) -> None:
    """No aliases (a few lines of them make gigabytes) and no bottomless nesting."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        mark: Any = event.start_mark
        if isinstance(event, yaml.AliasEvent):
            raise yaml.MarkedYAMLError(None, None, "aliases (*name) are not supported", mark)
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            raise yaml.MarkedYAMLError(None, None, f"nested deeper than {_DEEPEST} levels", mark)


def _duplicates(node: Any, path: tuple[str | int, ...]) -> Iterator[str]:
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _duplicates(item, (*path, index))
    elif isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            here = (*path, str(key.value))
            if key.value in seen:
                yield field_path(here)
            seen.add(key.value)
            yield from _duplicates(value, here)


def _where(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    what = getattr(error, "problem", None) or str(error).splitlines()[0]
    return f"line {mark.line + 1}: {what}" if mark else what
