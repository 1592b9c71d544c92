"""The short NCCL run: every member starts the same command, index 0 prints the result, each prints its NCCL log.

How fast it was counts only where the logs prove RDMA: NCCL falls back to sockets without an error. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from llm_rollout.fabric import reading
from llm_rollout.fabric.inventory import Finding
from llm_rollout.fabric.perftest import Output

TIMEOUT_SECONDS = 90.0
"""Starting CUDA and NCCL on eight GPUs takes up to a minute, one size a few seconds."""

_LEAST_PART_OF_LINE = 0.75
"""Of the ports' rates together. Healthy nodes reach 0.92 to 0.96, those with ACS switched on or a GPU far from its NIC
a half or less (NVIDIA/nccl issue 2409, nccl-tests issues 112 and 290); rings within a node can exceed it."""
_COULD_NOT_RUN = frozenset({"image", "ifname", "oob", "truncated", "other", "no-device"})
"""Nothing is known of the fabric then."""

_REMEDY = {
    "socket-fallback": "NCCL found no RDMA device: see NCCL_IB_HCA, server.network.attachments and rdma_resource",
    "wrong-data": "data was damaged on its way: take the GPUs of this node out of use and run their diagnostics",
}
_LOOK = "see NCCL's log of this node in the Job's output; perftest between the same nodes was good"
_SLOW = "perftest was good, so look between GPU and NIC: ACS, IOMMU, nvidia-peermem or DMA-BUF, GPU and NIC affinity"


@dataclass(frozen=True)
class Said:
    """What one member's run printed. ``ok`` with a ``busbw_gbytes`` only at index 0; ``last_line`` is for people."""

    ok: bool
    error_class: str | None
    transport: str | None
    busbw_gbytes: float | None
    last_line: str


def environment(index: int, count: int, host: str, port: int) -> dict[str, str]:
    """What tells the command's launcher who it is: the words of torchrun. NCCL is asked to name its transport."""
    return {
        "NODE_RANK": str(index),
        "NNODES": str(count),
        "MASTER_ADDR": host,
        "MASTER_PORT": str(port),
        "NCCL_DEBUG": "INFO",
        "NCCL_DEBUG_SUBSYS": "INIT,NET",
    }


def said(output: Output) -> Said:
    """The reading of one member's output; one that was ended or failed is never ok, whatever it printed."""
    read = reading.read(output.text.encode())
    busbw = read.gate.value if read.gate is not None and read.gate.key == "gate_busbw_gbytes" else None
    ended_well = output.exit_code == 0
    lines = [line.strip() for line in output.text.splitlines() if line.strip()]
    cause = read.error_class or (None if ended_well else "other")
    return Said(ended_well and read.status == "ok", cause, read.transport, busbw, lines[-1] if lines else "")


def judge(by_node: Mapping[str, Said], line_gbytes: float | None) -> tuple[list[Finding], list[str]]:
    """Findings, and why the run counts for nothing where it could not be made. ``by_node`` begins with index 0.

    Sockets are bad however fast. ``line_gbytes``: what a node's ports carry together in GB/s, None when unknown.
    """
    found, missing = [], []
    for node, one in by_node.items():
        if one.transport == "socket" or one.error_class == "socket-fallback":
            found.append(Finding("setting", "NCCL", f"{node} went over sockets", "bad", _REMEDY["socket-fallback"]))
        elif not one.ok and one.error_class in _COULD_NOT_RUN:
            missing.append(f"NCCL did not run on {node}: {one.last_line or one.error_class}")
        elif not one.ok:
            remedy = _REMEDY.get(one.error_class or "", _LOOK)
            found.append(Finding("setting", "NCCL", f"{node}: {one.error_class}: {one.last_line}", "bad", remedy))
        elif one.transport is None:
            missing.append(f"NCCL's log on {node} names no transport")
    if not found and not missing:
        found, missing = _speed(next(iter(by_node.values())), line_gbytes)
    return found, missing


def _speed(first: Said, line_gbytes: float | None) -> tuple[list[Finding], list[str]]:
    if first.busbw_gbytes is None:
        return [], ["the NCCL command printed no bus bandwidth at index 0"]
    if first.error_class == "no-gdr":
        return [Finding("setting", "NCCL", "a connection goes without GPUDirect RDMA", "warn", _SLOW)], []
    if line_gbytes is not None and first.busbw_gbytes < _LEAST_PART_OF_LINE * line_gbytes:
        detail = f"{first.busbw_gbytes:.4g} GB/s < {_LEAST_PART_OF_LINE} of the ports' {line_gbytes:.4g} GB/s"
        return [Finding("setting", "NCCL", detail, "warn", _SLOW)], []
    return [], []
