"""Stand-in for ibv_devinfo of rdma-core: the ports of this node on the simulated fabric."""

from __future__ import annotations

import argparse
import ipaddress
import sys
from collections.abc import Sequence

from devcluster.standins import gids, kernel_files
from devcluster.standins.fabric_file import BANNER, MARK, Fabric, Port, load, own_node

_STATES = {"DOWN": 1, "INIT": 2, "ARMED": 3, "ACTIVE": 4}
_MTU_CODES = {256: 1, 512: 2, 1024: 3, 2048: 4, 4096: 5}
_WIDTHS = {1: 1, 4: 2, 8: 4, 12: 8, 2: 16}
_LANE_GBPS = {2.5: 1, 5.0: 2, 10.0: 4, 14.0: 16, 25.0: 32, 50.0: 64, 100.0: 128, 200.0: 256}


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the devices; 0, or 255 when there is none."""
    flags = argparse.ArgumentParser(prog="ibv_devinfo", description=f"{BANNER}.")
    flags.add_argument("-d", "--ib-dev", help="only this device")
    flags.add_argument("-i", "--ib-port", type=int, help="only this port")
    flags.add_argument("-l", "--list", action="store_true", help="only the names")
    flags.add_argument("-v", "--verbose", action="store_true", help="all attributes")
    options = flags.parse_args(arguments)
    print(BANNER)
    fabric = load()
    kernel_files.write(fabric)
    names = [hca for hca in fabric.hcas if options.ib_dev in {None, hca} and fabric.port(own_node(), hca)]
    if not names:
        sys.stderr.write(f"IB device '{options.ib_dev}' wasn't found\n" if options.ib_dev else "No IB devices found\n")
        return 255
    if options.list:
        print(f"{len(names)} HCA{'s' * (len(names) > 1)} found:", *(f"\t{hca}" for hca in names), sep="\n")
        return 0
    for port in _ports(fabric, names):
        _print_device(port, verbose=options.verbose)
    return 0


def _ports(fabric: Fabric, names: Sequence[str]) -> list[Port]:
    found = (fabric.port(own_node(), hca) for hca in names)
    return [port for port in found if port is not None]


def _print_device(port: Port, *, verbose: bool) -> None:
    guid = f"dead:beef:0000:{sum((own_node() + port.hca).encode()):04x}"
    print(f"hca_id:\t{port.hca}")
    print(f"\ttransport:\t\t\t{MARK}")
    print("\tfw_ver:\t\t\t\t0.0.0")
    print(f"\tnode_guid:\t\t\t{guid}")
    print(f"\tsys_image_guid:\t\t\t{guid}")
    print("\tvendor_id:\t\t\t0x0000")
    print("\tvendor_part_id:\t\t\t0")
    print("\thw_ver:\t\t\t\t0x0")
    print("\tphys_port_cnt:\t\t\t1")
    _print_port(port, verbose=verbose)


def _print_port(port: Port, *, verbose: bool) -> None:
    print("\t\tport:\t1")
    print(f"\t\t\tstate:\t\t\tPORT_{port.state} ({_STATES.get(port.state, 0)})")
    print("\t\t\tmax_mtu:\t\t4096 (5)")
    print(f"\t\t\tactive_mtu:\t\t{port.mtu} ({_MTU_CODES.get(port.mtu, 0)})")
    print("\t\t\tsm_lid:\t\t\t0")
    print("\t\t\tport_lid:\t\t0")
    print("\t\t\tport_lmc:\t\t0x00")
    print(f"\t\t\tlink_layer:\t\t{port.link_layer}")
    if verbose:
        width, lane_gbps = _lanes(port.rate_gbps)
        print(f"\t\t\tactive_width:\t\t{width}X ({_WIDTHS[width]})")
        print(f"\t\t\tactive_speed:\t\t{lane_gbps:.1f} Gbps ({_LANE_GBPS[lane_gbps]})")
        print(f"\t\t\tphys_state:\t\t{'LINK_UP (5)' if port.active else 'DISABLED (3)'}")
        for entry in gids.table(own_node(), port):
            kind = f", {entry.kind}" if entry.version else ""
            print(f"\t\t\tGID[{entry.index:3d}]:\t\t{_shown(entry)}{kind.replace('IB/', '')}")
    print()


def _shown(entry: gids.Gid) -> str:
    """As the original: IPv4 addresses readable, all others with their leading zeros left out."""
    if entry.ipv4:
        return f"::ffff:{entry.ipv4}"
    return ipaddress.IPv6Address(entry.gid).compressed


def _lanes(rate_gbps: float) -> tuple[int, float]:
    """Width and lane speed of a port rate, four lanes where there is a choice."""
    for width in sorted(_WIDTHS, key=lambda width: (width != 4, width)):  # noqa: PLR2004 - the usual number of lanes
        if rate_gbps / width in _LANE_GBPS:
            return width, rate_gbps / width
    raise SystemExit(f"fabric file: rate_gbps {rate_gbps} is no width times lane speed; take 100, 200, 400 or 800")


if __name__ == "__main__":
    sys.exit(main())
