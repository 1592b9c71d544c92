"""Stand-in for show_gids of the vendor's driver package: the GID table on the simulated fabric."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from devcluster.standins import gids
from devcluster.standins.fabric_file import BANNER, load, own_node


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the GIDs of each device of this node."""
    flags = argparse.ArgumentParser(prog="show_gids", description=f"{BANNER}.")
    flags.add_argument("device", nargs="?", help="only this device")
    options = flags.parse_args(arguments)
    print(BANNER)
    print("DEV\tPORT\tINDEX\tGID\t\t\t\t\tIPv4  \t\tVER\tDEV\n---\t----\t-----\t---\t\t\t\t\t------------  \t---\t---")
    fabric = load()
    ports = (fabric.port(own_node(), hca) for hca in fabric.hcas if options.device in {None, hca})
    rows = [_row(port.hca, entry) for port in ports if port for entry in gids.table(own_node(), port)]
    print(*rows, f"n_gids_found={len(rows)}", sep="\n")
    return 0


def _row(hca: str, entry: gids.Gid) -> str:
    address, version = entry.ipv4 or "\t", f"v{entry.version}" if entry.version else ""
    return f"{hca}\t1\t{entry.index}\t{entry.gid}\t{address}  \t{version}\t{entry.net_device}"


if __name__ == "__main__":
    sys.exit(main())
