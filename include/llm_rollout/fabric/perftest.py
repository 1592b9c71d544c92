"""What one run of ib_write_bw or ib_write_lat on this node measured, or why it measured nothing.

:mod:`reading.perftest` reads what they print; here the exit code decides before any number, and stands for the report's
end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from llm_rollout.fabric.reading import causes, lines, perftest
from llm_rollout.fabric.reading.causes import Cause, ErrorClass
from llm_rollout.fabric.reading.outcome import SIMULATED, Row
from llm_rollout.fabric.reading.perftest import MIB_TO_GBIT
from llm_rollout.fabric.rows import Failure, Measured, Result

__all__ = ["MIB_TO_GBIT", "Output", "bandwidth", "error_class", "failure", "latency"]

_ADVICE: dict[ErrorClass, tuple[Literal["bad", "could_not_run"], str]] = {
    "gid": ("bad", "queue pairs do not connect: GID index, IPv4 of the rail"),
    "port": ("bad", "the port is not ACTIVE"),
    "timeout": ("bad", "the peer did not answer on this rail: GID, VLAN, ACL, flow control or cable"),
    "access": ("bad", "local protection or remote access error: ACS or IOMMU settings, or the device"),
    "flush": ("bad", "the transfer broke off after an error that is not printed"),
    "memlock": ("bad", "memory cannot be locked: add IPC_LOCK"),
    "gdr-missing": ("bad", "memory of the GPU cannot be registered: nvidia-peermem or DMA-BUF"),
    "no-device": ("bad", "the device cannot be opened: is /dev/infiniband mounted?"),
    "image": ("could_not_run", "the image lacks the tool or a library: it needs perftest"),
    "oob": ("could_not_run", "the tools' TCP exchange failed, or the other end went away before the test"),
}
"""By class: whether this is a fault of the path or its ends, or says nothing about them, and where to look."""
_BROKE_OFF = "Failed to complete run_iter"


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
    """The average of the largest size in Gb/s, for one direction."""
    if failed := failure(output):
        return failed
    text = lines.clean(output.stdout)
    number = perftest.gate(_rows(text), both_ways=perftest.both_ways(text))
    if number is None or number.key != "gate_gbps" or not number.usable:
        return Failure("could_not_run", "ib_write_bw ended well but printed no row with a known unit")
    return Measured(number.value, _is_simulated(output))


def latency(output: Output) -> Result:
    """The 99th percentile of the last row in microseconds, half a round trip."""
    if failed := failure(output):
        return failed
    percentiles = [row["p99_usec"] for row in _rows(lines.clean(output.stdout)) if "p99_usec" in row]
    if not percentiles:
        return Failure("could_not_run", "ib_write_lat ended well but printed no 99th percentile")
    return Measured(percentiles[-1], _is_simulated(output))


def failure(output: Output) -> Failure | None:
    """Why this run is no measurement, None when nothing speaks against it."""
    cause = _cause(output)
    if cause is not None and cause.error_class in _ADVICE:
        status, advice = _ADVICE[cause.error_class]
        return Failure(status, f"{advice} ({cause.words!r})")
    if cause is not None and _BROKE_OFF in output.text:
        return Failure("bad", f"the transfer broke off ({cause.words!r})")
    if cause is None and output.exit_code == 0:
        return None
    last = _last_line(output.text)
    ended = "took too long and was ended" if output.exit_code is None else f"exit code {output.exit_code}"
    return Failure("could_not_run", f"{ended}: {last}" if last else ended)


def error_class(output: Output) -> ErrorClass | None:
    """The class of the failure in the words of ``llm-rollout read-fabric``; None for a run that ended well."""
    if (cause := _cause(output)) is not None:
        return cause.error_class
    if output.exit_code is None:
        return "truncated"
    return None if output.exit_code == 0 else "other"


def _cause(output: Output) -> Cause | None:
    return causes.first(perftest.failures(lines.clean(output.text)))


def _rows(text: str) -> Sequence[Row]:
    return perftest.table(lines.table_lines(text)).rows


def _last_line(text: str) -> str:
    return ([""] + [line.strip() for line in text.splitlines() if line.strip()])[-1]


def _is_simulated(output: Output) -> bool:
    return SIMULATED in output.text
