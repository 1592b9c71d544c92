"""pydantic's errors as sentences that name the value and the way out."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Sequence
from typing import Any

from pydantic_core import ErrorDetails

from llm_rollout.spec import RolloutSpec
from llm_rollout.spec_problems import NO_VALUE, Problem, field_path

Location = Sequence[str | int]

FORMS = {
    r"^[a-z]([-a-z0-9]*[a-z0-9])?$": "lower-case letters, digits and '-', beginning with a letter, not ending with '-'",
    r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$": "lower-case letters, digits and '-', not at either end",
    r"^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$": "lower-case letters, digits, '-' and '.', the name of an existing object",
    r"^[\w.-]+(:\d+)?(/[\w.-]+)*(:[\w.-]+)?(@sha256:[0-9a-f]{64})?$": "REGISTRY/NAME:TAG or NAME@sha256:DIGEST",
    r"^([-a-z0-9]+/)?[a-z0-9]([-.a-z0-9]*[a-z0-9])?(@[\w.-]{1,15})?$": "NAME, NAMESPACE/NAME or NAME@INTERFACE",
    r"^([01]\d|2[0-3]):[0-5]\d$": "HH:MM from 00:00 to 23:59",
    r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$": "ORG/NAME, for example meta-llama/Llama-3.1-405B-Instruct",
    r"^[\w./-]+$": "a branch, tag or commit without spaces",
    r"^((https?|s3|gs)://[^\s/]+|file:///[^\s/]+)": "an address such as https://huggingface.co or s3://bucket/models",
    r"^/": "an absolute path such as /models",
    r"^[a-z0-9]([-.a-z0-9]*[a-z0-9])?/[A-Za-z0-9]([\w.-]*[A-Za-z0-9])?$": "DOMAIN/NAME as in the node's allocatable",
    r"^[\w.-]{1,15}$": "one interface name such as eth0",
}
"""What each pattern of the spec asks for, in words."""

_WANTED = {
    "int_type": ("a whole number", "write a plain number"),
    "int_from_float": ("a whole number", "write a number without a fraction"),
    "float_type": ("a number", "write a plain number"),
    "bool_type": ("true or false", "write true or false"),
    "tuple_type": ("a list", "write it as [a, b]"),
    "dict_type": ("a mapping", "write it as name: value"),
    "model_type": ("a mapping", "write its fields below it, indented"),
    "finite_number": ("a finite number", "write a number"),
}

_BOUNDS = (
    ("minimum", "at least"),
    ("exclusiveMinimum", "above"),
    ("maximum", "at most"),
    ("exclusiveMaximum", "below"),
)


def translate(file: str, errors: Sequence[ErrorDetails]) -> list[Problem]:
    """One problem for each error. A list that is short because its items are wrong is not wrong twice."""
    broken_inside = {tuple(error["loc"][:-1]) for error in errors}
    return [
        _problem(file, error)
        for error in errors
        if not (error["type"] == "too_short" and error["loc"] in broken_inside)
    ]


def _problem(file: str, error: ErrorDetails) -> Problem:
    location = error["loc"]
    message, remedy = _said(error, location)
    value = NO_VALUE if error["type"] == "missing" else error["input"]
    return Problem(file, field_path(location), value, message, remedy)


def _said(error: ErrorDetails, location: Location) -> tuple[str, str]:
    kind = error["type"]
    if kind == "missing":
        return "this field is required", _meaning("add it", location)
    if kind == "extra_forbidden":
        return "there is no such field", _nearest(location)
    if kind == "literal_error":
        return "not one of the allowed values", "choose " + " or ".join(schema_at(location)["enum"])
    if kind == "string_pattern_mismatch":
        return "not in the form of this field", f"write {FORMS[error['ctx']['pattern']]}"
    return _not_wanted(error) or _out_of_range(error, location)


def _not_wanted(error: ErrorDetails) -> tuple[str, str] | None:
    if error["type"] == "string_type":
        return "not text", f'put it in quotes: "{error["input"]}"'
    wanted = _WANTED.get(error["type"])
    return (f"not {wanted[0]}", wanted[1]) if wanted else None


def _out_of_range(error: ErrorDetails, location: Location) -> tuple[str, str]:
    if error["type"] == "string_too_long":
        longest = error["ctx"]["max_length"]
        text = f"{len(error['input'])} characters are too many, since names derived from it must fit in 63"
        return text, f"shorten it to at most {longest}"
    if error["type"] == "too_short":
        return "the list is empty", _meaning("give at least one item", location)
    schema = schema_at(location)
    bounds = " and ".join(f"{word} {schema[key]}" for key, word in _BOUNDS if key in schema)
    if bounds:
        return "out of range", _meaning(f"choose {bounds}", location)
    return error["msg"], _meaning("correct it", location)


def _meaning(remedy: str, location: Location) -> str:
    """The remedy with what the field means, where the spec says so."""
    description = schema_at(location).get("description", "").rstrip(".")
    return f"{remedy} ({description})" if description else remedy


def _nearest(location: Location) -> str:
    """The field that was probably meant: of this name elsewhere, or of a similar name here."""
    name = str(location[-1])
    elsewhere = [path for path in _all_fields() if path.rpartition(".")[2] == name]
    if elsewhere:
        return f"remove it, or move it to {' or '.join(elsewhere)}"
    siblings = list(schema_at(location[:-1]).get("properties", {}))
    near = difflib.get_close_matches(name, siblings, n=1) or [field for field in siblings if field.startswith(name)]
    return f"write {near[0]}" if near else f"remove it, or use one of {', '.join(siblings)}"


def schema_at(location: Location) -> dict[str, Any]:
    """The JSON schema of one field, {} where the spec has none."""
    node = _resolved(_schema())
    for part in location:
        if isinstance(part, int):
            child = node.get("items", {})
        else:
            child = node.get("properties", {}).get(part) or node.get("additionalProperties") or {}
        node = _resolved(child) if isinstance(child, dict) else {}
    return node


@functools.cache
def _schema() -> dict[str, Any]:
    return RolloutSpec.model_json_schema()


def _resolved(node: dict[str, Any]) -> dict[str, Any]:
    """A node without its reference and without its "or null"."""
    for choice in node.get("anyOf", []):
        if choice.get("type") != "null":
            return {**_resolved(choice), **{key: value for key, value in node.items() if key != "anyOf"}}
    if "$ref" in node:
        target = _schema()["$defs"][node["$ref"].rpartition("/")[2]]
        return {**target, **{key: value for key, value in node.items() if key != "$ref"}}
    return node


@functools.cache
def _all_fields() -> tuple[str, ...]:
    return tuple(_fields_below(_resolved(_schema()), ""))


def _fields_below(node: dict[str, Any], prefix: str) -> list[str]:
    found = []
    for name, child in node.get("properties", {}).items():
        found += [f"{prefix}{name}", *_fields_below(_resolved(child), f"{prefix}{name}.")]
    return found
