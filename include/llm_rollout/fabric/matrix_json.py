"""A matrix from JSON, strictly: what is not a matrix is refused with the name of the field. And the verdict as JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from llm_rollout.errors import Permanent
from llm_rollout.fabric.judgement import Fault, Judgement
from llm_rollout.fabric.matrix import BAD_CLASSES, OTHER_CLASSES, Attempt, Cell, Matrix, Thresholds

_MOST_EVIDENCE = 32
"""The worst cells of a finding; a global one has thousands, which say no more."""
_MOST_GBPS = 1e9
"""No port is as fast; it also refuses NaN and infinity."""
_CLASSES = frozenset(BAD_CLASSES + OTHER_CLASSES)
T = TypeVar("T")


class NotAMatrixError(Permanent):
    """The value is no matrix; the message names field, value and remedy."""


def read(value: Any) -> Matrix:
    """The matrix of a JSON value as ``llm-rollout attribute`` takes it. :class:`NotAMatrixError` when it is none."""
    top = _object(value, "the matrix")
    nodes = _unique(_list(top, "nodes", "", _name), "nodes", least=2)
    rails = _unique(_list(top, "rails", "", _whole), "rails", least=1)
    return Matrix(
        nodes,
        rails,
        _positive(_field(top, "port_rate_gbps", ""), "port_rate_gbps"),
        _transport(_field(top, "transport", "")),
        _thresholds(_field(top, "thresholds", "")),
        _cells(top, frozenset(nodes), frozenset(rails)),
    )


def as_json(matrix: Matrix, judgement: Judgement) -> dict[str, Any]:
    """The verdict and its findings as ``llm-rollout attribute`` prints them."""
    return {"verdict": judgement.verdict, "findings": [_finding(matrix, fault) for fault in judgement.faults]}


def _finding(matrix: Matrix, fault: Fault) -> dict[str, Any]:
    kind, node, peer, rail = fault.part.name
    return {
        "kind": kind,
        "node": None if node is None else matrix.nodes[node],
        "peer": None if peer is None else matrix.nodes[peer],
        "rail": None if rail is None else matrix.rails[rail],
        "evidence": [_evidence(cell) for cell in fault.evidence[:_MOST_EVIDENCE]],
    }


def _evidence(cell: Cell) -> dict[str, Any]:
    counted = cell.counted or Attempt(None)
    shown = {"client": cell.client, "server": cell.server, "rail": cell.rail}
    return {**shown, "gbps": counted.gbps, "error_class": counted.error_class}


def _cells(top: Mapping[str, Any], nodes: frozenset[str], rails: frozenset[int]) -> tuple[Cell, ...]:
    cells = _list(top, "cells", "", _cell)
    seen: set[tuple[str, str, int]] = set()
    for index, cell in enumerate(cells):
        where = f"cells[{index}]"
        for end in (cell.client, cell.server):
            _require(end in nodes, f"{where}.{'client' if end == cell.client else 'server'}", end, "one of nodes")
        _require(cell.rail in rails, f"{where}.rail", cell.rail, "one of rails")
        _require(cell.client != cell.server, f"{where}.server", cell.server, "another node than client")
        key = cell.client, cell.server, cell.rail
        _require(key not in seen, where, list(key), "given once, with all its attempts")
        seen.add(key)
    return tuple(cells)


def _cell(value: Any, where: str) -> Cell:
    cell = _object(value, where)
    return Cell(
        _name(_field(cell, "client", where), f"{where}.client"),
        _name(_field(cell, "server", where), f"{where}.server"),
        _whole(_field(cell, "rail", where), f"{where}.rail"),
        tuple(_list(cell, "attempts", where, _attempt)),
    )


def _attempt(value: Any, where: str) -> Attempt:
    attempt = _object(value, where)
    gbps, error = _field(attempt, "gbps", where), _field(attempt, "error_class", where)
    if gbps is not None:
        _require(_is_number(gbps) and gbps >= 0, f"{where}.gbps", gbps, "null or Gbit/s, 0 or more")
    known = error is None or (isinstance(error, str) and error in _CLASSES)
    _require(known, f"{where}.error_class", error, f"null or one of {', '.join(sorted(_CLASSES))}")
    return Attempt(None if gbps is None else float(gbps), error)


def _thresholds(value: Any) -> Thresholds:
    given = _object(value, "thresholds")
    names = ("fail_fraction", "warn_fraction")
    fail, warn = (_positive(_field(given, name, "thresholds"), f"thresholds.{name}") for name in names)
    _require(fail <= warn, "thresholds.warn_fraction", warn, f"fail_fraction, {fail}, or more")
    return Thresholds(fail, warn)


def _transport(value: Any) -> str | None:
    _require(value is None or isinstance(value, str), "transport", value, "null or a word such as ib or roce")
    return value if isinstance(value, str) else None


def _list(top: Mapping[str, Any], name: str, where: str, read_one: Callable[[Any, str], T]) -> list[T]:
    path = f"{where}.{name}" if where else name
    values = _field(top, name, where)
    _require(isinstance(values, list), path, values, "a list")
    return [read_one(value, f"{path}[{index}]") for index, value in enumerate(values)]


def _unique(values: Sequence[T], where: str, *, least: int) -> tuple[T, ...]:
    _require(len(values) >= least, where, list(values), f"{least} or more")
    twice = [value for index, value in enumerate(values) if value in values[:index]]
    _require(not twice, where, twice[:1], "given once")
    return tuple(values)


def _field(value: Mapping[str, Any], name: str, where: str) -> Any:
    path = f"{where}.{name}" if where else name
    if name not in value:
        raise NotAMatrixError(f"{path} is missing")
    return value[name]


def _object(value: Any, where: str) -> Mapping[str, Any]:
    _require(isinstance(value, dict), where, value, "a JSON object")
    return dict(value)


def _name(value: Any, where: str) -> str:
    _require(isinstance(value, str) and bool(value), where, value, "the name of a node")
    return str(value)


def _whole(value: Any, where: str) -> int:
    _require(isinstance(value, int) and not isinstance(value, bool), where, value, "a whole number")
    return int(value)


def _positive(value: Any, where: str) -> float:
    _require(_is_number(value) and value > 0, where, value, "a number above 0")
    return float(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _MOST_GBPS


def _require(holds: bool, where: str, value: Any, wanted: str) -> None:  # noqa: FBT001 - the condition comes first
    if not holds:
        shown = repr(value)
        raise NotAMatrixError(f"{where} is {shown[:80]}{'…' * (len(shown) > 80)}: it must be {wanted}")  # noqa: PLR2004
