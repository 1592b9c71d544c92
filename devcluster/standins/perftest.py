"""What the stand-ins for ib_write_bw and ib_write_lat share: flags, the settings block, the TCP exchange.

The wording of errors and the layout of tables are those of perftest 6, so that a parser meets the real thing.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
from dataclasses import asdict, dataclass
from typing import IO, NoReturn

from devcluster.standins.fabric_file import BANNER, MARK, Fabric, Port, load, own_node

LINE = "-" * 87
VERSION = "6.06"


@dataclass(frozen=True)
class Peer:
    """What the two ends tell each other before the test."""

    node: str
    hca: str
    size_bytes: int


class Channel:
    """The TCP connection between client and server: one line of JSON at a time."""

    def __init__(self, connection: socket.socket) -> None:
        """Take over ``connection``."""
        self._stream: IO[str] = connection.makefile("rw", encoding="utf-8")

    def send(self, value: object) -> None:
        """Send a JSON value; a vanished peer shows at the next receive."""
        try:
            self._stream.write(json.dumps(value) + "\n")
            self._stream.flush()
        except OSError:
            return

    def receive(self) -> dict[str, object]:
        """The next value; ends the program as the original does when the peer is gone."""
        try:
            line = self._stream.readline()
        except OSError:
            line = ""
        if not line:
            fail("ethernet_read_keys: Couldn't read remote address", " Unable to read to socket/rdma_cm",
                 " Failed to exchange data between server and clients")  # fmt: skip
        value = json.loads(line)
        return value if isinstance(value, dict) else {}


@dataclass(frozen=True)
class Session:
    """Two connected ends: ``own`` port, the peer and its port, and the fabric between them."""

    options: argparse.Namespace
    fabric: Fabric
    own: Port
    peer: Peer
    peer_port: Port
    channel: Channel

    @property
    def is_client(self) -> bool:
        """The client sends, and so measures."""
        return self.options.host is not None

    @property
    def nodes(self) -> tuple[str, str]:
        """Own node and the peer's."""
        return own_node(), self.peer.node


def fail(*lines: str) -> NoReturn:
    """Print ``lines`` to stderr and exit 1."""
    sys.stdout.flush()
    sys.stderr.write("\n".join(lines) + "\n")
    sys.exit(1)


def parser(program: str) -> argparse.ArgumentParser:
    """The flags that both programs know; without a host the program is the server."""
    flags = argparse.ArgumentParser(prog=program, description=f"{BANNER}.")
    flags.add_argument("host", nargs="?", help="connect to the server there; without it, be the server")
    flags.add_argument("-V", "--version", action="version", version=f"Version: {VERSION} {MARK}")
    flags.add_argument("-d", "--ib-dev", help="device (default: the first)")
    flags.add_argument("-i", "--ib-port", type=int, default=1, help="port of the device")
    flags.add_argument("-x", "--gid-index", type=int, help="GID index")
    flags.add_argument("-p", "--port", type=int, default=18515, help="TCP port of the exchange (default: %(default)s)")
    flags.add_argument("-D", "--duration", type=float, help="seconds")
    flags.add_argument("-n", "--iters", type=int, help="number of exchanges, at least 5")
    flags.add_argument("-s", "--size", type=int, help="bytes of a message")
    flags.add_argument("-a", "--all", action="store_true", help="sizes from 2 to 2^23")
    flags.add_argument("-F", "--CPU-freq", action="store_true", help="no warning about the CPU frequency")
    flags.add_argument("-S", "--sl", type=int, default=0, help="service level")
    flags.add_argument("-m", "--mtu", type=int, help="bytes")
    flags.add_argument("--tclass", type=int, help="traffic class")
    flags.add_argument("--bind_source_ip", "--source_ip", help="address for the exchange")
    flags.add_argument("--perform_warm_up", action="store_true", help="warm up first")
    return flags


def connect(options: argparse.Namespace, title: str, extra: str) -> Session:
    """Open the device, print the settings, meet the other end."""
    print(BANNER)
    fabric = load()
    hca = options.ib_dev or next(iter(fabric.hcas), "")
    own = _open(fabric, hca)
    if options.host is None:
        print(f"\n{'*' * 36}\n* Waiting for client to connect... *\n{'*' * 36}")
    _print_settings(options, title, extra, own)
    channel = Channel(_client(options) if options.host else _server(options))
    mine = Peer(own_node(), hca, options.size)
    channel.send(asdict(mine))
    peer = Peer(**channel.receive())  # type: ignore[arg-type]
    if mine.size_bytes != peer.size_bytes:
        fail(" Failed to exchange data between server and clients: different -s")
    peer_port = fabric.port(peer.node, peer.hca)
    if peer_port is None:
        fail(" Unable to Connect the HCA's through the link")
    _print_addresses(own_node(), peer.node)
    session = Session(options, fabric, own, peer, peer_port, channel)
    _check_path(session)
    return session


def _open(fabric: Fabric, hca: str) -> Port:
    port = fabric.port(own_node(), hca)
    if port is None:
        fail(f"IB device {hca} not found" if hca else " Did not detect devices ",
             " Unable to find the Infiniband/RoCE device")  # fmt: skip
    if not port.active:
        fail(f" Port number 1 state is {port.state.capitalize()}", " Couldn't set the link layer",
             " Couldn't get context for the device")  # fmt: skip
    return port


def _check_path(session: Session) -> None:
    """A broken path shows at the sender, after the retries of the hardware, as status 12."""
    if not session.fabric.broken(session.own.hca, session.nodes):
        return
    if session.is_client:
        fail(" Completion with error at client",
             " Failed status-transport retry counter exceeded (12): wr_id 0 syndrom 0x81",
             " scnt=128, ccnt=0", " Failed to complete run_iter_bw function successfully")  # fmt: skip
    session.channel.receive()


def _client(options: argparse.Namespace) -> socket.socket:
    source = (options.bind_source_ip, 0) if options.bind_source_ip else None
    try:
        return socket.create_connection((options.host, options.port), timeout=None, source_address=source)
    except OSError:
        fail(f"Couldn't connect to {options.host}:{options.port}",
             "Unable to open file descriptor for socket connection",
             " Unable to init the socket connection")  # fmt: skip


def _server(options: argparse.Namespace) -> socket.socket:
    host = options.bind_source_ip or os.environ.get("DEVCLUSTER_LISTEN_HOST", "")
    try:
        with socket.create_server((host, options.port)) as listening:
            return listening.accept()[0]
    except OSError as error:
        fail(f"Problem in binding to port {options.port}: {error}", " Unable to init the socket connection")


def _print_settings(options: argparse.Namespace, title: str, extra: str, own: Port) -> None:
    print(LINE)
    print(f"                    {title}")
    print(f" Dual-port       : OFF\t\tDevice         : {own.hca}")
    print(f" Number of qps   : {getattr(options, 'qp', 1)}\t\tTransport type : {MARK}")
    print(" Connection type : RC\t\tUsing SRQ      : OFF")
    print(" PCIe relax order: ON")
    print(extra)
    print(f" Mtu             : {options.mtu or own.mtu}[B]")
    print(" Link type       : Ethernet")
    if options.gid_index is not None:
        print(f" GID index       : {options.gid_index}")
    print(" Max inline data : 0[B]")
    print(" rdma_cm QPs\t : OFF")
    print(" Data ex. method : Ethernet")
    print(LINE)


def _print_addresses(own: str, peer: str) -> None:
    for side, node in (("local", own), ("remote", peer)):
        number = sum(node.encode())
        memory = f"RKey 0x{number:06x} VAddr 0x007f00{number:08x}"
        print(f" {side} address: LID 0000 QPN 0x{number:04x} PSN 0x{number * 7:06x} {memory}")
        print(f" GID: 00:00:00:00:00:00:00:00:00:00:255:255:10:64:00:{number % 250:02d}")
    print(LINE)
