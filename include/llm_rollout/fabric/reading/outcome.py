"""What a reader says of one file, in closed words, and when a number may be used."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from llm_rollout.fabric.reading.causes import Cause, ErrorClass, first

Status = Literal["ok", "failed", "unreadable"]
Tool = Literal[
    "ib_write_bw", "ib_write_lat", "ib_read_bw", "ib_read_lat", "ib_send_bw", "ib_send_lat", "ib_atomic_bw",
    "ib_atomic_lat", "perftest", "nccl-tests", "nccl-log", "ibv_devinfo", "show_gids", "network-status", "iperf3",
    "unknown",
]  # fmt: skip
Transport = Literal["ib", "roce", "soft-roce", "rdma", "socket", "other"]
"""``rdma``: RDMA whose link layer was not printed. ``other``: iWARP, a vendor's own network, or a simulation."""
Row = Mapping[str, Any]

TOOLS: tuple[str, ...] = get_args(Tool)
TRANSPORTS: tuple[str, ...] = get_args(Transport)
ERROR_CLASSES: tuple[str, ...] = get_args(ErrorClass)

SIMULATED = "SIMULATED"
"""Stand-ins of the devcluster print this word; what they measure is ``other``, never ``ib`` or ``roce``."""


@dataclass(frozen=True)
class Gate:
    """The one number of a report: Gb/s in one direction, GB/s of bus bandwidth, or microseconds."""

    key: Literal["gate_gbps", "gate_busbw_gbytes", "gate_usec"]
    value: float

    @property
    def usable(self) -> bool:
        """Nothing measurable is zero, negative or not a number."""
        return math.isfinite(self.value) and self.value > 0


@dataclass(frozen=True)
class Report:
    """What a reader found. ``whole``: the end of the report is there."""

    tool: Tool
    rows: Sequence[Row] = ()
    causes: Sequence[Cause] = ()
    whole: bool = False
    transport: Transport | None = None
    gate: Gate | None = None


@dataclass(frozen=True)
class Reading:
    """The answer for one file. At most one gate is set, and only where ``status`` is ok."""

    tool: Tool
    status: Status
    rows: Sequence[Row] = ()
    gate: Gate | None = None
    error_class: ErrorClass | None = None
    transport: Transport | None = None

    def as_json(self) -> dict[str, Any]:
        """The object that ``llm-rollout read-fabric`` prints; a number that JSON cannot hold is null."""
        gates = dict.fromkeys(("gate_gbps", "gate_busbw_gbytes", "gate_usec"))
        if self.gate is not None:
            gates |= {self.gate.key: round(self.gate.value, 6)}
        return {
            "tool": self.tool,
            "status": self.status,
            "rows": [_json_value(row) for row in self.rows],
            **gates,
            "error_class": self.error_class,
            "transport": self.transport,
        }


def concluded(report: Report) -> Reading:
    """The reading of ``report``: a failure beats an end that is missing, and both beat any number.

    A run over sockets has failed, however fast it was. Without GPUDirect a run is slow and nevertheless a run.
    """
    causes = [*report.causes]
    if report.transport == "socket":
        causes.append(Cause("socket-fallback", "the run went over sockets"))
    if report.whole and report.gate is not None and not report.gate.usable:
        causes.append(Cause("other", f"{report.gate.key} is {report.gate.value}"))
    cause = first(causes)
    error_class = cause.error_class if cause else None
    status: Status = "ok"
    if error_class not in {None, "no-gdr"}:
        status = "failed"
    elif not report.whole:
        status, error_class = "unreadable", "truncated"
    gate = report.gate if status == "ok" else None
    return Reading(report.tool, status, report.rows, gate, error_class, report.transport)


def link_transport(link_layers: set[str], devices: set[str]) -> Transport:
    """The transport of RDMA devices by their link layers, as the tools name them; different ones count as unknown."""
    if any("rxe" in device.lower() for device in devices):
        return "soft-roce"
    kinds = {_LINK_LAYERS.get(layer.lower(), "rdma") for layer in link_layers}
    return kinds.pop() if len(kinds) == 1 else "rdma"


_LINK_LAYERS: dict[str, Transport] = {"ib": "ib", "infiniband": "ib", "ethernet": "roce", "roce": "roce"}


def number(text: str) -> float | None:
    """A number as the tools print it, ``nan`` and ``inf`` among them; None for anything else."""
    try:
        return float(text) if not text[:1].isalpha() or text.lower() in {"nan", "inf"} else None
    except ValueError:
        return None


def _json_value(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _json_value(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_json_value(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
