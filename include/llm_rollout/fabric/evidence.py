"""What the runs show besides their numbers: cells that are slow only in company, and error counters that have risen."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from llm_rollout.fabric.inventory import Finding
from llm_rollout.fabric.rows import Row
from llm_rollout.fabric.sysfs import Counters

_TOGETHER = 2
"""Tries in company before the one alone."""
_PART_OF_CELLS = 0.25
"""Of a device's cells. Two flakes in a row hit one cell in thousands, lost flow control most of them."""
_LEAST_CELLS = 2
_NODES_OF_TWO_PAIRS = 4
_QOS = (
    "fabric.traffic_class and NCCL_IB_TC must be the lossless class of the switches; look at PFC and ECN on the NICs"
    " and switches"
)
_FLAPPING = "look at this port's cable and transceiver: the link went down and came back while it was measured"


def slow_in_company(tries: Sequence[Sequence[Row]]) -> list[Finding]:
    """Devices of which many cells failed twice beside others and were good alone: a setting, not a part."""
    by_hca: dict[str, list[Sequence[Row]]] = defaultdict(list)
    for seen in tries:
        by_hca[seen[0].hca].append(seen)
    nodes = {node for seen in tries for node in seen[0].pair}
    if len(by_hca) == 1 and len(nodes) < _NODES_OF_TWO_PAIRS:
        return []  # There was never more than one run at a time.
    found = []
    for hca, cells in by_hca.items():
        slow = [seen for seen in cells if _only_alone(seen)]
        if len(slow) >= max(_LEAST_CELLS, _PART_OF_CELLS * len(cells)):
            found.append(_in_company(hca, slow, len(cells)))
    return found


def _only_alone(seen: Sequence[Row]) -> bool:
    in_company = seen[:_TOGETHER]
    return len(seen) > _TOGETHER and seen[-1].status == "ok" and all(_below(row) for row in in_company)


def _below(row: Row) -> bool:
    """Measured and below a limit, or failed on the way: what could not run says nothing."""
    return row.status in {"bad", "warn"}


def _in_company(hca: str, slow: Sequence[Sequence[Row]], cells: int) -> Finding:
    together = [row for seen in slow for row in seen[:_TOGETHER]]
    worst = min(together, key=lambda row: row.gbps or 0.0)
    said = f"{worst.client} -> {worst.server} {worst.gbps or 0.0:.4g} Gb/s beside others"
    detail = f"{hca}: {len(slow)} of {cells} ways are good alone only ({said}): flow control or traffic class"
    bad = any(row.status == "bad" for row in together)
    return Finding("setting", "load", detail, "bad" if bad else "warn", _QOS)


def risen_counters(risen: Mapping[str, Counters]) -> list[Finding]:
    """Error counters of each node that rose while pairs were measured: notes, and a warning where a link went down.

    Most of them rise a little on healthy fabrics (adaptive routing delivers out of order), and they count for the NIC
    whoever uses it, so that they support a verdict but make none.
    """
    found = []
    for node, by_hca in risen.items():
        for hca, rises in by_hca.items():
            shown = ", ".join(f"{name} +{by}" for name, by in sorted(rises.items()))
            if "link_downed" in rises:
                found.append(Finding("nic", node, f"{hca}: {shown}", "warn", _FLAPPING))
            else:
                found.append(Finding("nic", node, f"{hca}: {shown}", "note"))
    return found
