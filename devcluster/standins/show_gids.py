"""Stand-in for show_gids of the vendor's driver package: the GID table on the simulated fabric."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence

from devcluster.standins.fabric_file import BANNER, load, own_node


def main(arguments: Sequence[str] | None = None) -> int:
    """Print link-local and IPv4 GIDs of each device, RoCE v1 and v2 each."""
    flags = argparse.ArgumentParser(prog="show_gids", description=f"{BANNER}.")
    flags.add_argument("device", nargs="?", help="only this device")
    options = flags.parse_args(arguments)
    print(BANNER)
    print("DEV\tPORT\tINDEX\tGID\t\t\t\t\tIPv4  \t\tVER\tDEV\n---\t----\t-----\t---\t\t\t\t\t------------  \t---\t---")
    rows = [
        row for rail, hca in enumerate(load().hcas) if options.device in {None, hca} for row in _rows(hca, rail)
    ]  # fmt: skip
    print(*rows, f"n_gids_found={len(rows)}", sep="\n")
    return 0


def _rows(hca: str, rail: int) -> list[str]:
    number = int((re.findall(r"\d+", own_node()) or ["0"])[-1]) % 250
    address = f"192.168.{100 + rail}.{10 + number}"
    mapped = f"0000:0000:0000:0000:0000:ffff:c0a8:{100 + rail:02x}{10 + number:02x}"
    local = f"fe80:0000:0000:0000:0000:00ff:fe00:{rail:02x}{number:02x}"
    table = [(local, "\t"), (local, "\t"), (mapped, address), (mapped, address)]
    return [
        f"{hca}\t1\t{index}\t{gid}\t{ip}  \tv{1 + index % 2}\tnet{rail + 1}" for index, (gid, ip) in enumerate(table)
    ]


if __name__ == "__main__":
    sys.exit(main())
