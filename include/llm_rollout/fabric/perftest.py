"""Read what ib_write_bw and ib_write_lat print, over all their versions.

The unit is only in the header, the peak stands before the average, noise stands between header and row, and a
good row may be followed by a failure: the exit code and the failure lines decide before any number.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from llm_rollout.fabric.rows import Failure, Measured, Result

MIB_TO_GBIT = 2**20 * 8 / 1e9
"""``MiB/sec`` and the ``MB/sec`` of older versions both count 2^20 bytes."""

_GBITS = {"gb/sec": 1.0, "mib/sec": MIB_TO_GBIT, "mb/sec": MIB_TO_GBIT}
_SIMULATED = re.compile(r"\bSIMULATED\b")
_COLUMN = re.compile(
    r"#\w+|BW [\w ]+?\[[^\]]+\]|MsgRate[\w ]*\[[^\]]+\]|CPU_Util\[[^\]]*\]"
    r"|t_\w+\[usec\]|99(?:\.9)?%\s*percentile\[usec\]|tps average"
)
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_STATUS = re.compile(r"Failed status[^\n(]*?\(?(\d+)\)?:")

_STATUS_CAUSES = {
    "4": "local protection error: ACS or IOMMU settings, or the device",
    "10": "remote access error: ACS or IOMMU settings of the peer, or its device",
    "12": "the peer did not answer on this rail: GID, VLAN, ACL, flow control or cable",
}
_BAD: tuple[tuple[str, str], ...] = (
    (r"Failed to modify QP|Unable to Connect the HCA's", "queue pairs do not connect: GID index, IPv4 of the rail"),
    (r"Failed to complete run_iter", "the transfer broke off"),
    (r"state is (?!Active)\w+|Couldn't set the link layer", "the port is not ACTIVE"),
)
"""The RDMA path was tried and failed."""
_COULD_NOT_RUN: tuple[tuple[str, str], ...] = (
    (r"Cannot allocate memory|Couldn't allocate MR|failed to create mr", "memory cannot be locked: add IPC_LOCK"),
    (r"Unable to find the Infiniband/RoCE device", "the device cannot be opened: is /dev/infiniband mounted?"),
    (r"Couldn't connect to|Unable to init the socket|Problem in binding", "the tools' TCP exchange failed"),
    (r"Couldn't read remote address|Failed to exchange data", "the other end went away before the test"),
)
"""The RDMA path was never tried."""


@dataclass(frozen=True)
class Output:
    """What one run of a tool left. ``exit_code`` None: it was ended for taking too long."""

    exit_code: int | None
    stdout: str
    stderr: str

    @property
    def text(self) -> str:
        """Both streams."""
        return f"{self.stdout}\n{self.stderr}"


def bandwidth(output: Output) -> Result:
    """The average of the last row (the largest size of a sweep) in Gb/s."""
    if failed := failure(output):
        return failed
    for columns, values in _rows_from_last(output.stdout):
        averages = [place for place, name in enumerate(columns) if name.startswith("BW average[")]
        unit = columns[averages[0]].partition("[")[2].rstrip("]").lower() if averages else ""
        if unit in _GBITS:
            return Measured(float(values[averages[0]]) * _GBITS[unit], _is_simulated(output))
    return Failure("could_not_run", "ib_write_bw ended well but printed no row with a known unit")


def latency(output: Output) -> Result:
    """The 99th percentile of half a round trip in microseconds."""
    if failed := failure(output):
        return failed
    for columns, values in _rows_from_last(output.stdout):
        places = [place for place, name in enumerate(columns) if name.startswith("99%")]
        if places:
            return Measured(float(values[places[0]]), _is_simulated(output))
    return Failure("could_not_run", "ib_write_lat ended well but printed no 99th percentile")


def failure(output: Output) -> Failure | None:
    """Why this run is no measurement, None when nothing speaks against it."""
    cause = _known_failure(output.text)
    if cause is None and output.exit_code != 0:
        last = _last_line(output.text)
        ended = "took too long and was ended" if output.exit_code is None else f"exit code {output.exit_code}"
        cause = Failure("could_not_run", f"{ended}: {last}" if last else ended)
    return cause


def _rows_from_last(text: str) -> list[tuple[list[str], list[str]]]:
    """All numeric rows, each with the names of its columns."""
    found: list[tuple[list[str], list[str]]] = []
    columns: list[str] = []
    for line in text.splitlines():
        if "#bytes" in line:
            columns = _COLUMN.findall(line)
        values = line.split()
        if columns and len(values) >= len(columns) and all(_NUMBER.fullmatch(value) for value in values):
            found.append((columns, values))
    return found[::-1]


def _known_failure(text: str) -> Failure | None:
    if status := _STATUS.search(text):
        number = status.group(1)
        return Failure("bad", f"completion status {number}: {_STATUS_CAUSES.get(number, 'the transfer failed')}")
    bad = next(_matches(_BAD, text), None)
    if bad is not None:
        return Failure("bad", bad)
    could_not_run = next(_matches(_COULD_NOT_RUN, text), None)
    return None if could_not_run is None else Failure("could_not_run", could_not_run)


def _matches(patterns: Iterable[tuple[str, str]], text: str) -> Iterator[str]:
    for pattern, cause in patterns:
        if found := re.search(pattern, text):
            yield f"{cause} ({found.group(0)!r})"


def _last_line(text: str) -> str:
    return ([""] + [line.strip() for line in text.splitlines() if line.strip()])[-1]


def _is_simulated(output: Output) -> bool:
    return _SIMULATED.search(output.text) is not None
