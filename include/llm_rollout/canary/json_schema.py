"""The part of JSON Schema that says whether a model wrote what it was asked for; the Jobs' image has no validator.

Known words: ``type``, ``enum``, ``const``, ``properties``, ``required``, ``additionalProperties`` (true or false),
``items``, ``minItems``, ``maxItems``, ``minLength``, ``maxLength``, ``pattern``, ``minimum`` and ``maximum``, with
their meaning in JSON Schema 2020-12. Any other word is refused when the task is read, so that none is ignored.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_TYPES: Mapping[str, Callable[[Any], bool]] = MappingProxyType({
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "number": _is_number,
    "integer": lambda value: _is_number(value) and float(value).is_integer(),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
})  # fmt: skip

_LENGTHS = {
    "minItems": (list, int.__ge__), "maxItems": (list, int.__le__),
    "minLength": (str, int.__ge__), "maxLength": (str, int.__le__),
}  # fmt: skip
_WORDS = frozenset({
    "type", "enum", "const", "properties", "required", "additionalProperties", "items", "pattern", "minimum", "maximum",
    *_LENGTHS,
})  # fmt: skip


def fits(value: Any, schema: Mapping[str, Any]) -> bool:
    """Whether ``value`` is of the shape; ``schema`` is one in which ``problem`` found nothing."""
    return (
        _is_of_type(value, schema) and _is_one_of(value, schema) and _is_sized(value, schema) and _holds(value, schema)
    )


def problem(schema: Any) -> str:
    """What is wanted in place of ``schema``; empty if it can be used."""
    if not isinstance(schema, dict):
        return "a JSON schema that is an object"
    unknown = sorted(schema.keys() - _WORDS)
    if unknown:
        return f"a schema without {unknown[0]!r}; known are {', '.join(sorted(_WORDS))}"
    wrong = next(
        (f"another {word} than {schema[word]!r:.60}" for word in schema if not _is_fine(word, schema[word])), ""
    )
    inner = [*schema["properties"].values()] if not wrong and "properties" in schema else []
    inner += [schema["items"]] if not wrong and "items" in schema else []
    return wrong or next(filter(None, map(problem, inner)), "")


def _is_fine(word: str, value: Any) -> bool:
    if word == "type":
        return all(isinstance(each, str) and each in _TYPES for each in (value if isinstance(value, list) else [value]))
    if word in _LENGTHS:
        return isinstance(value, int) and not isinstance(value, bool) and value >= 0
    if word in ("minimum", "maximum"):
        return _is_number(value)
    if word == "pattern":
        return isinstance(value, str) and _compiles(value)
    if word == "required":
        return isinstance(value, list) and all(isinstance(each, str) for each in value)
    kinds: dict[str, type] = {"enum": list, "properties": dict, "additionalProperties": bool, "items": dict}
    return isinstance(value, kinds.get(word, object))


def _compiles(pattern: str) -> bool:
    try:
        re.compile(pattern)
    except re.error:
        return False
    return True


def _is_of_type(value: Any, schema: Mapping[str, Any]) -> bool:
    named = schema.get("type", [])
    wanted = named if isinstance(named, list) else [named]
    return not wanted or any(_TYPES[each](value) for each in wanted)


def _is_one_of(value: Any, schema: Mapping[str, Any]) -> bool:
    allowed = [*schema.get("enum", []), *([schema["const"]] if "const" in schema else [])]
    # In Python 1 == True; in JSON they differ.
    return not allowed or any(value == each and isinstance(value, bool) == isinstance(each, bool) for each in allowed)


def _is_sized(value: Any, schema: Mapping[str, Any]) -> bool:
    for word, (kind, holds) in _LENGTHS.items():
        if word in schema and isinstance(value, kind) and not holds(len(value), schema[word]):
            return False
    if isinstance(value, str) and "pattern" in schema and not re.search(schema["pattern"], value):
        return False
    return not _is_number(value) or schema.get("minimum", value) <= value <= schema.get("maximum", value)


def _holds(value: Any, schema: Mapping[str, Any]) -> bool:
    if isinstance(value, list):
        return all(fits(each, schema.get("items", {})) for each in value)
    if not isinstance(value, dict):
        return True
    properties = schema.get("properties", {})
    closed = schema.get("additionalProperties") is False
    return (
        all(name in value for name in schema.get("required", []))
        and not (closed and value.keys() - properties.keys())
        and all(fits(value[name], inner) for name, inner in properties.items() if name in value)
    )
