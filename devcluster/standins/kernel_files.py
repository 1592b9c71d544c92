"""What the kernel shows of RDMA devices in files: GID tables and counters, for the simulated ports of one node.

The folder is ``DEVCLUSTER_SYSFS``, else /sys/class/infiniband, which a sandbox of the devcluster lacks and so can make.
Where it cannot be written (a machine with a real one) nothing is.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from devcluster.standins import gids
from devcluster.standins.fabric_file import Fabric, Port, own_node

COUNTERS = (
    "counters/symbol_error", "counters/link_downed", "counters/link_error_recovery", "counters/port_rcv_errors",
    "counters/port_xmit_discards", "counters/port_xmit_packets", "hw_counters/out_of_sequence",
    "hw_counters/packet_seq_err", "hw_counters/local_ack_timeout_err", "hw_counters/rnr_nak_retry_err",
)  # fmt: skip
_RUNS = "counters/port_xmit_packets"


def write(fabric: Fabric) -> None:
    """Make the files of all ports of this node; counters that are there keep their values."""
    for hca in fabric.hcas:
        if port := fabric.port(own_node(), hca):
            with contextlib.suppress(OSError):
                _write_port(port)


def sent(port: Port) -> int:
    """How many runs this port has seen as sender, this one not counted; 0 where there are no files."""
    before = _value(port, _RUNS)
    _add(port, _RUNS, 1)
    return before


def count_errors(port: Port) -> None:
    """Let the error counters rise as the fabric file says."""
    for name, by in port.counters.items():
        _add(port, name, int(by))


def _folder(port: Port) -> Path:
    return Path(os.environ.get("DEVCLUSTER_SYSFS", "/sys/class/infiniband")) / port.hca / "ports/1"


def _write_port(port: Port) -> None:
    folder = _folder(port)
    for entry in gids.table(own_node(), port):
        for name, text in (("gids", entry.gid), ("gid_attrs/types", entry.kind), ("gid_attrs/ndevs", entry.net_device)):
            (folder / name).mkdir(parents=True, exist_ok=True)
            (folder / name / str(entry.index)).write_text(f"{text}\n")
    for name in COUNTERS:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.write_text("0\n")


def _value(port: Port, name: str) -> int:
    try:
        return int((_folder(port) / name).read_text() or 0)
    except OSError:
        return 0


def _add(port: Port, name: str, by: int) -> None:
    with contextlib.suppress(OSError):
        (_folder(port) / name).write_text(f"{_value(port, name) + by}\n")
