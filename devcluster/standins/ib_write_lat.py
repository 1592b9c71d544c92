"""Stand-in for perftest's ib_write_lat: a real TCP exchange, a latency from the simulated fabric."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from devcluster.standins import perftest
from devcluster.standins.fabric_file import time_scale

DEFAULT_SIZE_BYTES = 2
DEFAULT_ITERATIONS = 1000
COLUMNS = (
    " #bytes #iterations    t_min[usec]    t_max[usec]  t_typical[usec]    t_avg[usec]    t_stdev[usec]"
    "   99% percentile[usec]   99.9% percentile[usec] "
)
COLUMNS_OF_DURATION = " #bytes        #iterations       t_avg[usec]    tps average"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as client or server; 0 with a row, 1 with the original's words on stderr."""
    options = perftest.parser("ib_write_lat").parse_args(arguments)
    options.size = options.size or DEFAULT_SIZE_BYTES
    _run(perftest.connect(options, "RDMA_Write Latency Test", " TX depth        : 1"))
    return 0


def _run(session: perftest.Session) -> None:
    options = session.options
    usec = _measured_usec(session)
    print(COLUMNS_OF_DURATION if options.duration else COLUMNS)
    if options.duration:
        iterations = int(options.duration * 1e6 / (2 * usec))
        print(f" {options.size:<7d}       {iterations}            {usec:<7.2f}        {1e6 / (2 * usec):<7.2f}")
    else:
        iterations = options.iters or DEFAULT_ITERATIONS
        least, most, usual, p99, p999 = (usec * factor for factor in (0.97, 3.1, 1.0, 1.08, 1.4))
        print(
            f" {options.size:<7d} {iterations}          {least:<7.2f}        {most:<7.2f}      {usual:<7.2f}  \t"
            f"       {usec * 1.01:<7.2f}     \t{usec * 0.03:<7.2f}\t\t{p99:<7.2f} \t\t{p999:<7.2f}"
        )
    print(perftest.LINE)


def _measured_usec(session: perftest.Session) -> float:
    """The client takes the time and tells the server, so that both print the same row."""
    if not session.is_client:
        return float(str(session.channel.receive()["usec"]))
    way = session.way()
    perftest.check_path(session, way, session.options.size)
    usec = session.fabric.usec(session.own, session.peer_port, way)
    time.sleep((session.options.duration or 0.0) * time_scale())
    session.channel.send({"usec": usec})
    return usec


if __name__ == "__main__":
    sys.exit(main())
