"""What the stand-ins for ib_write_bw and ib_write_lat share: flags, the settings block, the TCP exchange.

The flags, the wording of errors and the layout of tables are those of perftest 6.06 (Debian 4.5+0.17), so that a
parser meets the real thing; ``--use_cuda`` and ``--bind_source_ip`` are those of builds with CUDA and of newer ones.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import sys
import time
from dataclasses import asdict, dataclass
from typing import IO, NoReturn

from devcluster.standins import failures, gids, kernel_files
from devcluster.standins.fabric_file import BANNER, MARK, Fabric, Port, Way, load, own_node

LINE = "-" * 87
VERSION = "6.06"
_SMALL_BYTES = 1024
"""What still passes where a switch forgot its jumbo frames."""


@dataclass(frozen=True)
class Peer:
    """What the two ends tell each other before the test."""

    node: str
    hca: str
    size_bytes: int
    gid: str
    version: int


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
            fail(*failures.EXCHANGE)
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
    number: int

    @property
    def is_client(self) -> bool:
        """The client sends, and so measures."""
        return self.options.host is not None

    @property
    def program(self) -> str:
        """ib_write_bw or ib_write_lat."""
        return str(self.options.program)

    def way(self, *, loaded: bool = False) -> Way:
        """From the client to the server."""
        nodes = (own_node(), self.peer.node) if self.is_client else (self.peer.node, own_node())
        return Way(*nodes, self.own.hca, self.number, loaded)


def fail(*lines: str) -> NoReturn:
    """Print ``lines`` to stderr and exit 1."""
    sys.stdout.flush()
    sys.stderr.write("\n".join(lines) + "\n")
    sys.exit(1)


def parser(program: str) -> argparse.ArgumentParser:
    """The flags that both programs know; without a host the program is the server."""
    flags = argparse.ArgumentParser(prog=program, description=f"{BANNER}.")
    flags.set_defaults(program=program)
    flags.add_argument("host", nargs="?", help="connect to the server there; without it, be the server")
    flags.add_argument("-V", "--version", action="version", version=f"Version: {VERSION} {MARK}")
    flags.add_argument("-d", "--ib-dev", help="device (default: the first)")
    flags.add_argument("-i", "--ib-port", type=int, default=1, help="port of the device")
    flags.add_argument("-x", "--gid-index", type=int, help="GID index")
    flags.add_argument("-p", "--port", type=int, default=18515, help="TCP port of the exchange (default: %(default)s)")
    flags.add_argument("-D", "--duration", type=int, help="seconds")
    flags.add_argument("-n", "--iters", type=int, help="number of exchanges, at least 5")
    flags.add_argument("-s", "--size", type=int, help="bytes of a message")
    flags.add_argument("-a", "--all", action="store_true", help="sizes from 2 to 2^23")
    flags.add_argument("-F", "--CPU-freq", action="store_true", help="no warning about the CPU frequency")
    flags.add_argument("-S", "--sl", type=int, default=0, help="service level")
    flags.add_argument("-m", "--mtu", type=int, help="bytes")
    flags.add_argument("-t", "--tx-depth", type=int, default=128, help="length of the send queue")
    flags.add_argument("-u", "--qp-timeout", type=int, default=14, help="4 microseconds * 2^value")
    flags.add_argument("--tclass", type=int, help="traffic class")
    flags.add_argument("--use_cuda", type=int, metavar="N", help="memory of GPU N (builds with CUDA only)")
    flags.add_argument("--source_ip", "--bind_source_ip", help="address for the exchange")
    flags.add_argument("--perform_warm_up", action="store_true", help="warm up first")
    return flags


def connect(options: argparse.Namespace, title: str, extra: str) -> Session:
    """Open the device, print the settings, meet the other end, connect the queue pairs."""
    print(BANNER)
    fabric = load()
    kernel_files.write(fabric)
    own = _open(fabric, options)
    own_gid = gids.chosen(gids.table(own_node(), own), options.gid_index)
    if options.host is None:
        print(f"\n{'*' * 36}\n* Waiting for client to connect... *\n{'*' * 36}")
    _print_settings(options, title, extra, own)
    channel = Channel(_client(options, own) if options.host else _server(options, own))
    mine = Peer(own_node(), own.hca, options.size, own_gid.gid, own_gid.version)
    channel.send(asdict(mine))
    peer = Peer(**channel.receive())  # type: ignore[arg-type]
    if mine.size_bytes != peer.size_bytes:
        fail(" Failed to exchange data between server and clients: different -s")
    peer_port = fabric.port(peer.node, peer.hca)
    if peer_port is None:
        fail(failures.LINK)
    _print_addresses(mine, peer)
    number = kernel_files.sent(own) if options.host else 0
    session = Session(options, fabric, own, peer, peer_port, channel, number)
    _connect_queue_pairs(session, mine)
    return session


def check_path(session: Session, way: Way, size_bytes: int) -> None:
    """Fail as the original does when this run's way has a fault. The client tells, the server waits for its end."""
    ports = (session.own, session.peer_port)
    fault = next((port.fault for port in ports if port.fault), "") or session.fabric.fault(way)
    if fault in failures.completions(large=size_bytes > _SMALL_BYTES):
        fail(*failures.completion(fault, session.program))
    if fault == "hang":
        sys.stdout.flush()
        while True:
            time.sleep(60)
    if fault == "killed":
        sys.stdout.flush()
        os.kill(os.getpid(), signal.SIGKILL)


def _open(fabric: Fabric, options: argparse.Namespace) -> Port:
    hca = options.ib_dev or next(iter(fabric.hcas), "")
    port = fabric.port(own_node(), hca)
    if port is None:
        fail(*((f"IB device {hca} not found",) if hca else (" Did not detect devices ",)), *failures.NO_DEVICE)
    if not port.active:
        fail(*failures.port_state(port.state))
    if port.fault == "memlock" or (port.fault == "gdr" and options.use_cuda is not None):
        fail(*failures.MEMORY)
    return port


def _connect_queue_pairs(session: Session, mine: Peer) -> None:
    """The GIDs decide. A wrong one on either end stops both: neither finds a way to the other."""
    fault = "gid" in {session.own.fault, session.peer_port.fault, session.fabric.fault(session.way())}
    if fault or gids.ZERO in {mine.gid, session.peer.gid}:
        fail(*failures.queue_pairs(sum(mine.node.encode())))
    if mine.version != session.peer.version:
        fail(*failures.GID_TYPES)


def _client(options: argparse.Namespace, own: Port) -> socket.socket:
    source = (options.source_ip, 0) if options.source_ip else None
    try:
        if own.fault == "oob":
            raise ConnectionRefusedError
        return socket.create_connection((options.host, options.port), timeout=None, source_address=source)
    except OSError:
        fail(f"Couldn't connect to {options.host}:{options.port}", *failures.SOCKET)


def _server(options: argparse.Namespace, own: Port) -> socket.socket:
    host = options.source_ip or os.environ.get("DEVCLUSTER_LISTEN_HOST", "")
    try:
        with socket.create_server((host, options.port)) as listening:
            connection = listening.accept()[0]
    except OSError as error:
        fail(f"Problem in binding to port {options.port}: {error}", " Unable to init the socket connection")
    if own.fault == "crash":
        fail(*failures.EXCHANGE)
    return connection


def _print_settings(options: argparse.Namespace, title: str, extra: str, own: Port) -> None:
    print(LINE)
    print(f"                    {title}")
    print(f" Dual-port       : OFF\t\tDevice         : {own.hca}")
    print(f" Number of qps   : {getattr(options, 'qp', 1)}\t\tTransport type : {MARK}")
    print(" Connection type : RC\t\tUsing SRQ      : OFF")
    print(" PCIe relax order: ON")
    print(extra)
    print(f" Mtu             : {options.mtu or own.mtu}[B]")
    print(f" Link type       : {'IB' if own.link_layer == 'InfiniBand' else own.link_layer}")
    if options.gid_index is not None:
        print(f" GID index       : {options.gid_index}")
    print(" Max inline data : 0[B]")
    print(" rdma_cm QPs\t : OFF")
    print(" Data ex. method : Ethernet")
    print(LINE)


def _print_addresses(own: Peer, peer: Peer) -> None:
    for side, end in (("local", own), ("remote", peer)):
        number = sum(end.node.encode())
        memory = f"RKey 0x{number:06x} VAddr 0x007f00{number:08x}"
        print(f" {side} address: LID 0000 QPN 0x{number:04x} PSN 0x{number * 7:06x} {memory}")
        octets = bytes.fromhex(end.gid.replace(":", ""))
        print(" GID: " + ":".join(f"{octet:02d}" for octet in octets))
    print(LINE)
