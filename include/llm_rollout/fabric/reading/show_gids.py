"""Read the table that show_gids prints: one row for each GID that is set."""

from __future__ import annotations

import re
from collections.abc import Sequence

from llm_rollout.fabric.reading import causes
from llm_rollout.fabric.reading.causes import Cause
from llm_rollout.fabric.reading.lines import table_lines
from llm_rollout.fabric.reading.outcome import SIMULATED, Reading, Report, Row, Transport, concluded

_ROW = re.compile(
    r"^(\S+)\s+(\d{1,3})\s+(\d{1,4})\s+([0-9a-fA-F:]{15,39})(?:\s+(\d{1,3}(?:\.\d{1,3}){3}))?"
    r"\s+(?:RoCE )?(v[12]|IB|IB/RoCE v1)(?:\s+(\S+))?\s*$"
)
_END = re.compile(r"^[ \t]*n_gids_found=(\d{1,6})[ \t]*$", re.MULTILINE)


def read(text: str) -> Reading:
    """The reading of a clean text. Without any GID nothing connects."""
    rows = [row for line in table_lines(text) if (row := _row(line))]
    end = _END.search(text)
    none = [Cause("gid", "no GID is set")] if end and not rows and int(end.group(1)) == 0 else []
    whole = end is not None and int(end.group(1)) == len(rows)
    return concluded(
        Report("show_gids", rows, [*causes.found(text, causes.SHARED), *none], whole, _transport(text, rows))
    )


def _row(line: str) -> Row | None:
    found = _ROW.match(line)
    if found is None:
        return None
    hca, port, index, gid, address, kind, device = found.groups()
    return {
        "hca": hca,
        "port": int(port),
        "index": int(index),
        "gid": gid,
        "ipv4": address,
        "type": f"RoCE {kind}" if kind.startswith("v") else kind,
        "device": device,
    }


def _transport(text: str, rows: Sequence[Row]) -> Transport | None:
    """Only RoCE has GIDs of version 2, and only GIDs of InfiniBand have no network device."""
    if SIMULATED in text:
        return "other"
    if any("rxe" in row["hca"] for row in rows):
        return "soft-roce"
    kinds: set[Transport] = {"roce" if row["type"] == "RoCE v2" or row["device"] else "ib" for row in rows}
    return kinds.pop() if len(kinds) == 1 else ("rdma" if kinds else None)
