"""From files to specs: every problem of every file, or specs that can be used."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from llm_rollout.spec import RolloutSpec
from llm_rollout.spec_messages import translate
from llm_rollout.spec_problems import NO_VALUE, Problem, SpecError, field_path, file_problem
from llm_rollout.spec_rules import RULES, Rule
from llm_rollout.spec_rules_server import SERVER_RULES
from llm_rollout.spec_yaml import Document, duplicate_problems, read_documents

_REQUIRED = {
    "name": "model",
    "model": {"repo": "org/model"},
    "server": {"nodes_per_group": 1, "tensor_parallel": 1},
    "service": {"name": "front"},
    "upgrades": {"window": {"start": "22:00", "end": "04:00", "timezone": "Etc/UTC"}},
    "autoscaling": {"max_groups": 64},
}
"""Stands in for required fields that are missing or wrong, so that the rules can look at the others."""
_OPTIONAL_PARTS = ("upgrades", "autoscaling")


def load_spec(path: Path) -> RolloutSpec:
    """The spec in a file.

    Raises:
        SpecError: The file is not a valid spec; the error holds all its problems.
    """
    return spec_of(path, read_documents(path))


def load_specs(paths: Sequence[Path]) -> tuple[dict[Path, RolloutSpec], list[Problem]]:
    """The valid specs of several files, and every problem of the others.

    Specs that claim the same model name or the same Service exclude each other: the first file keeps the claim.
    """
    specs: dict[Path, RolloutSpec] = {}
    problems: list[Problem] = []
    for path in paths:
        try:
            spec = load_spec(path)
        except SpecError as error:
            problems += error.problems
            continue
        collisions = list(collisions_with(specs, path, spec))
        problems += collisions
        if not collisions:
            specs[path] = spec
    return specs, problems


def spec_of(path: Path, documents: Sequence[Document]) -> RolloutSpec:
    """The spec in a file's documents.

    Raises:
        SpecError: They are not one valid spec.
    """
    document = _only(path, documents)
    problems = duplicate_problems(path, document)
    spec, found = _parsed(path, document.value)
    if problems or found or spec is None:
        raise SpecError([*problems, *found])
    return spec


def collisions_with(specs: Mapping[Path, RolloutSpec], path: Path, spec: RolloutSpec) -> Iterator[Problem]:
    """Names that another file has taken."""
    for other_path, other in specs.items():
        if other.name == spec.name:
            message = f"{other_path} rolls out a model of this name, and DAGs are named by it"
            yield Problem(str(path), "name", spec.name, message, "choose another name")
        elif (other.namespace, other.service.name) == (spec.namespace, spec.service.name):
            message = f"{other_path} has this Service in namespace {spec.namespace}"
            yield Problem(str(path), "service.name", spec.service.name, message, "choose another name")


def _only(path: Path, documents: Sequence[Document]) -> Document:
    if len(documents) != 1:
        message = "the file is empty" if not documents else f"{len(documents)} documents in one file"
        raise SpecError([file_problem(path, message, "write one spec into each file")])
    document = documents[0]
    if not isinstance(document.value, dict):
        message = f"a {_kind(document.value)} instead of a spec"
        remedy = "write fields such as name: llama-405b (llm-rollout check --schema lists them)"
        raise SpecError([file_problem(path, message, remedy)])
    return document


def _parsed(path: Path, value: dict[Any, Any]) -> tuple[RolloutSpec | None, list[Problem]]:
    """The spec as far as it can be read, and what is wrong with it."""
    try:
        return _checked(path, RolloutSpec.model_validate_json(_json(path, value), strict=True), wrong=())
    except ValidationError as error:
        problems = translate(str(path), error.errors())
        wrong = [tuple(detail["loc"]) for detail in error.errors()]
    try:
        rest = RolloutSpec.model_validate_json(_json(path, _filled(_without(value, wrong), _REQUIRED)), strict=True)
    except ValidationError:  # a list may be too short without its wrong items
        return None, problems
    _, broken = _checked(path, rest, wrong=[field_path(location) for location in wrong])
    return None, [*problems, *broken]


def _checked(path: Path, spec: RolloutSpec, wrong: Sequence[str]) -> tuple[RolloutSpec, list[Problem]]:
    """The first broken rule of each field: the rules stand in the order of their weight."""
    first: dict[str, Problem] = {}
    for rule in (*SERVER_RULES, *RULES):
        for broken in () if _touches(rule, wrong) else rule.broken(spec):
            problem = Problem(str(path), broken.field_path, broken.value, broken.message, broken.remedy)
            first.setdefault(broken.field_path, problem)
    return spec, list(first.values())


def _touches(rule: Rule, wrong: Sequence[str]) -> bool:
    """Whether a rule reads a field that is known to be wrong, a part of one, or one that holds one."""
    return any(_within(read, bad) or _within(bad, read) for read in rule.reads for bad in wrong)


def _within(inner: str, outer: str) -> bool:
    return inner == outer or inner.startswith((f"{outer}.", f"{outer}["))


def _without(value: Any, locations: Sequence[tuple[str | int, ...]]) -> Any:
    """The value without what stands at ``locations``, so that defaults take its place."""
    if isinstance(value, dict):
        heads = {location[0] for location in locations if len(location) == 1}
        return {
            key: _without(item, [location[1:] for location in locations if location[0] == str(key) and location[1:]])
            for key, item in value.items()
            if str(key) not in heads
        }
    if isinstance(value, list):
        return [item for index, item in enumerate(value) if not any(location[0] == index for location in locations)]
    return value


def _filled(value: dict[str, Any], required: Mapping[str, Any]) -> dict[str, Any]:
    """The value with something valid for the required fields that it lacks."""
    filled = dict(value)
    for key, example in required.items():
        if key in _OPTIONAL_PARTS and value.get(key) is None:
            continue
        filled[key] = _filled(value.get(key, {}), example) if isinstance(example, dict) else value.get(key, example)
    return filled


def _json(path: Path, value: Any) -> str:
    try:
        return json.dumps(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise SpecError([
            Problem(str(path), "", NO_VALUE, f"holds values that are not data: {error}", "remove YAML tags (!!…)")
        ]) from error  # fmt: skip


def _kind(value: Any) -> str:
    if isinstance(value, list):
        return "list"
    return "text" if isinstance(value, str) else "single value"
