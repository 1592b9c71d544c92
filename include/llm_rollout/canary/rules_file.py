"""Rules as a mapping of plain values, as a file of the ``judge`` command holds them: every key has a default."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from math import isfinite
from typing import Any

from llm_rollout.canary.rules import MARGIN, METRICS, TOLERANCE, WEIGHTS, Rules
from llm_rollout.errors import Permanent

_PLAIN: Mapping[str, tuple[type, float, float]] = {
    "alpha": (float, 1e-6, 0.5),
    "beta": (float, 1e-6, 0.5),
    "round_pairs": (int, 1, 1_000_000),
    "cap_pairs": (int, 1, 1_000_000_000),
    "min_rounds": (int, 0, 1_000_000),
    "warmup_pairs": (int, 0, 1_000_000_000),
}
_SHARES = ("errors", "quality")
_MOST = 1000.0
_HISTORY = ("p90", "p95", "p99")


def parse(value: Any) -> Rules:
    """The rules; what is not given keeps its default, also inside of a mapping. Permanent names field and remedy."""
    given = _mapping("the configuration", {} if value is None else value)
    readers: dict[str, Callable[[Any], Any]] = {
        "required": _required,
        "weights": _weights,
        "tolerance": lambda given: {**TOLERANCE, **_limits("tolerance", given, TOLERANCE, least=0)},
        "margin": lambda given: {**MARGIN, **_limits("margin", given, MARGIN, least=1e-6)},
        "history": lambda given: {key: _known("history", key, given, _HISTORY, 1e-3, 1e9) for key in given},
    }
    found: dict[str, Any] = {}
    for name, one in given.items():
        if name in _PLAIN:
            found[name] = _number(name, one, *_PLAIN[name])
        elif name in readers:
            found[name] = readers[name](one if name == "required" else _mapping(name, one))
        else:
            raise Permanent(f"{name}: there is no such key: write one of {', '.join([*_PLAIN, *readers])}")
    rules = Rules(**found)
    _check_order(rules)
    return rules


def _check_order(rules: Rules) -> None:
    for name, margin in rules.margin.items():
        tolerance = rules.tolerance["tail" if name in _HISTORY else name]
        if margin <= tolerance:
            raise Permanent(f"margin.{name}: {margin:g} is not above its tolerance {tolerance:g}: nothing lies between")
    known = [name for name in _HISTORY if name in rules.history]
    for lower, higher in pairwise(known):
        if rules.history[lower] > rules.history[higher]:
            raise Permanent(f"history.{lower}: {rules.history[lower]:g} is above {higher}: give milliseconds in order")


def _required(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(one, str) and one in METRICS for one in value):
        raise Permanent(f"required: {value!r} is not a list of metrics: write some of {', '.join(METRICS)}")
    return tuple(dict.fromkeys(value))


def _weights(given: Mapping[str, Any]) -> dict[str, float]:
    weights = {**WEIGHTS, **{key: _known("weights", key, given, METRICS, 0, _MOST) for key in given}}
    if sum(weights.values()) <= 0:
        raise Permanent("weights: all of them are 0: give one metric a weight above 0")
    return weights


def _limits(field: str, given: Mapping[str, Any], known: Mapping[str, float], least: float) -> dict[str, float]:
    found = {}
    for key in given:
        share = key in _SHARES
        found[key] = _known(field, key, given, tuple(known), least if share else 1, 0.99 if share else _MOST)
    return found


def _known(field: str, key: str, given: Mapping[str, Any], keys: tuple[str, ...], *range_: float) -> float:
    if key not in keys:
        raise Permanent(f"{field}.{key}: there is no such key: write one of {', '.join(keys)}")
    least, most = range_
    return float(_number(f"{field}.{key}", given[key], float, least, most))


def _number(field: str, value: Any, *kind_and_range: Any) -> float:
    kind, least, most = kind_and_range
    right = type(value) is int or (kind is float and type(value) is float and isfinite(value))
    if not right or not least <= value <= most:
        whole = "whole number" if kind is int else "number"
        raise Permanent(f"{field}: {value!r} is not a {whole} from {least:g} to {most:g}")
    return float(value) if kind is float else int(value)


def _mapping(field: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise Permanent(f"{field}: {value!r} is not a mapping of names to values")
    return value
