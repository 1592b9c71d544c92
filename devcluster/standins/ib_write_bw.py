"""Stand-in for perftest's ib_write_bw: a real TCP exchange, a bandwidth from the simulated fabric."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from devcluster.standins import company, kernel_files, perftest
from devcluster.standins.fabric_file import fabric_path, time_scale

DEFAULT_SIZE_BYTES = 65536
DEFAULT_ITERATIONS = 5000
MIB_PER_GBIT = 1e9 / 8 / 2**20
SWEEP_BYTES = tuple(2**power for power in range(1, 24))
SATURATING_BYTES = 32768
"""Smaller messages are bound by the message rate, not by the wire."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as client or server; 0 with a row, 1 with the original's words on stderr."""
    flags = perftest.parser("ib_write_bw")
    flags.add_argument("-q", "--qp", type=int, default=1, help="number of queue pairs")
    flags.add_argument("-b", "--bidirectional", action="store_true", help="both directions at once")
    flags.add_argument("-N", "--noPeak", action="store_true", help="no peak")
    flags.add_argument("--report_gbits", action="store_true", help="Gb/sec, not MiB/sec")
    options = flags.parse_args(arguments)
    if options.all and options.duration:
        perftest.fail(" When performing duration test, can't run on all sizes")
    options.size = options.size or DEFAULT_SIZE_BYTES
    kind = "Bidirectional " if options.bidirectional else ""
    title, extra = f"RDMA_Write {kind}BW Test", " TX depth        : 128\n CQ Moderation   : 1"
    run = None if options.host else company.Run(fabric_path())
    session = perftest.connect(options, title, extra)
    _measure(session, loaded=_as_server(session, run) if run else _as_client(session))
    return 0


def _as_server(session: perftest.Session, run: company.Run) -> bool:
    """Only the client needs to know whether there is company."""
    session.channel.send({"place": run.place})
    session.channel.receive()
    run.looked()
    return False


def _as_client(session: perftest.Session) -> bool:
    """Company is looked for only where it matters: it takes a moment."""
    place = int(str(session.channel.receive()["place"]))

    def looked() -> None:
        session.channel.send({"looked": True})

    if session.fabric.depends_on_load(session.way()):
        return company.accompanied(fabric_path(), place, looked)
    looked()
    return False


def _measure(session: perftest.Session, *, loaded: bool) -> None:
    options = session.options
    unit = "Gb/sec" if options.report_gbits else "MiB/sec"
    if options.duration or options.noPeak:
        print(" WARNING: BW peak won't be measured in this run.")
    print(f" #bytes     #iterations    BW peak[{unit}]    BW average[{unit}]   MsgRate[Mpps]")
    for size in SWEEP_BYTES if options.all else (options.size,):
        gbps = _measured_gbps(session, size, loaded=loaded)
        seconds = options.duration or (options.iters or DEFAULT_ITERATIONS) * options.qp * size * 8 / (gbps * 1e9)
        print(_row(session, size, gbps, seconds))
    print(perftest.LINE)


def _measured_gbps(session: perftest.Session, size_bytes: int, *, loaded: bool) -> float:
    """The client takes the time and tells the server, so that both print the same row."""
    if not session.is_client:
        return float(str(session.channel.receive()["gbps"]))
    way = session.way(loaded=loaded)
    perftest.check_path(session, way, size_bytes)
    gbps = session.fabric.gbps(session.own, session.peer_port, way)
    if session.options.use_cuda is not None:
        gbps = min(gbps, session.own.gdr_gbps, session.peer_port.gdr_gbps)
    gbps *= min(1.0, size_bytes / SATURATING_BYTES) * (2 if session.options.bidirectional else 1)
    time.sleep((session.options.duration or 0.0) * time_scale())
    kernel_files.count_errors(session.own)
    session.channel.send({"gbps": gbps})
    return gbps


def _row(session: perftest.Session, size_bytes: int, gbps: float, seconds: float) -> str:
    shown = gbps if session.options.report_gbits else gbps * MIB_PER_GBIT
    messages_per_second = gbps * 1e9 / 8 / size_bytes
    iterations = max(5, round(messages_per_second * seconds))
    peak = 0.0 if session.options.duration or session.options.noPeak else shown * 1.004
    return (
        f" {size_bytes:<7d}    {iterations:<10d}       {peak:<7.2f}            {shown:<7.2f}"
        f"\t\t     {messages_per_second / 1e6:<7.6f}"
    )


if __name__ == "__main__":
    sys.exit(main())
