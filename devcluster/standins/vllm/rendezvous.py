"""How the ranks of a group find each other: workers call the leader, who tells each whom to send activations to.

The result is a ring: leader -> rank 1 -> … -> last rank -> leader. The connection that a worker called the leader by
stays open: by it the leader notices that the worker died, and the last rank sends its logits.
"""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass

from devcluster.standins.vllm import logs
from devcluster.standins.vllm.arguments import ServeOptions
from devcluster.standins.vllm.failures import (
    CLIENTS,
    KEYS,
    LEADER_GONE,
    MASTER_PORT,
    RENDEZVOUS,
    RENDEZVOUS_TIMEOUT,
    StartupError,
)
from devcluster.standins.vllm.wire import Channel

_RETRY_SECONDS = 0.2
_WARN_EVERY_SECONDS = 5.0
_HELLO_SECONDS = 5.0
_IN_STORE = "torch/distributed/rendezvous.py"


@dataclass(frozen=True)
class Group:
    """The leader's connections."""

    workers: dict[int, Channel]
    downstream: Channel | None


@dataclass(frozen=True)
class Place:
    """A worker's connections; the last rank has no ``downstream``, it answers to the leader."""

    leader: Channel
    upstream: Channel
    downstream: Channel | None


def gather(options: ServeOptions) -> Group:
    """Wait as leader for all workers and close the ring.

    Raises:
        StartupError: The port is taken, or not all came within the distributed timeout.
    """
    if options.nnodes == 1:
        return Group({}, None)
    try:
        listening = socket.create_server(("", options.master_port), backlog=options.nnodes)
    except OSError as error:
        raise StartupError(MASTER_PORT.format(port=options.master_port), RENDEZVOUS, _IN_STORE) from error
    with listening as server:
        callers = _callers(server, options)
    addresses = {rank: (channel.address[0], port) for rank, (channel, port) in callers.items()}
    for rank, (channel, _) in callers.items():
        channel.send({"next": addresses.get(rank + 1)})
    return Group({rank: channel for rank, (channel, _) in callers.items()}, _connect(*addresses[1]))


def _callers(server: socket.socket, options: ServeOptions) -> dict[int, tuple[Channel, int]]:
    """Return each worker's channel and the port it takes activations at. Callers that say no hello are sent away."""
    deadline = time.monotonic() + options.distributed_timeout_seconds
    callers: dict[int, tuple[Channel, int]] = {}
    while len(callers) < options.nnodes - 1:
        server.settimeout(max(deadline - time.monotonic(), 0.001))
        try:
            connection, _ = server.accept()
        except TimeoutError:
            text = CLIENTS.format(
                seconds=options.distributed_timeout_seconds, joined=len(callers) + 1, nnodes=options.nnodes
            )
            raise StartupError(text, RENDEZVOUS, _IN_STORE) from None
        channel = Channel(connection)
        try:
            hello, _ = channel.receive(_HELLO_SECONDS)
            rank, port, nnodes = int(hello["rank"]), int(hello["port"]), int(hello["nnodes"])
        except (OSError, ValueError, KeyError, TypeError):
            channel.close()
            continue
        if nnodes != options.nnodes:
            _wait_in_vain(options, deadline)
        if rank in callers:
            callers[rank][0].close()
        callers[rank] = (channel, port)
    return callers


def _wait_in_vain(options: ServeOptions, deadline: float) -> None:
    """Two ranks that count the nodes differently wait for keys that the other one never writes."""
    time.sleep(max(deadline - time.monotonic(), 0))
    text = KEYS.format(timeout_ms=int(options.distributed_timeout_seconds * 1000), rank=options.nnodes - 1)
    raise StartupError(text, RENDEZVOUS, _IN_STORE)


def join(options: ServeOptions) -> Place:
    """Call the leader as worker, trying again while its name does not resolve or nobody listens there.

    Raises:
        StartupError: The group did not come together within the distributed timeout.
    """
    deadline = time.monotonic() + options.distributed_timeout_seconds
    with socket.create_server(("", 0)) as server:
        try:
            leader = _call_leader(options, deadline)
            leader.send({"rank": options.node_rank, "port": server.getsockname()[1], "nnodes": options.nnodes})
            told, _ = leader.receive(max(deadline - time.monotonic(), 0.001))
            server.settimeout(_HELLO_SECONDS)
            downstream = _connect(*told["next"]) if told["next"] else None
            upstream, _ = server.accept()
        except ConnectionError as error:
            raise StartupError(_refused_text(options, error), RENDEZVOUS, _IN_STORE) from error
        except OSError as error:
            raise StartupError(_timeout_text(options), RENDEZVOUS, _IN_STORE) from error
    upstream.settimeout(None)
    return Place(leader, Channel(upstream), downstream)


def _call_leader(options: ServeOptions, deadline: float) -> Channel:
    address, port = options.master_addr, options.master_port
    warn_at = 0.0
    while True:
        try:
            return _connect(address, port)
        except OSError as error:
            if time.monotonic() > deadline:
                raise
            if time.monotonic() >= warn_at:
                warn_at = time.monotonic() + _WARN_EVERY_SECONDS
                logs.torch_warning("socket.cpp:767", _attempt_text(address, port, error))
        time.sleep(_RETRY_SECONDS)


def _attempt_text(address: str, port: int, error: OSError) -> str:
    if isinstance(error, socket.gaierror):
        gai = f"gai error: {error.errno} - {error.strerror}"
        return f"[c10d] The IPv4 network addresses of ({address}, {port}) cannot be retrieved ({gai})."
    errno = f"errno: {error.errno} - {error.strerror or error}"
    return f"[c10d] The client socket has failed to connect to [{address}]:{port} ({errno})."


def _connect(host: str, port: int) -> Channel:
    connection = socket.create_connection((host, port), timeout=_HELLO_SECONDS)
    connection.settimeout(None)
    return Channel(connection)


def _refused_text(options: ServeOptions, error: ConnectionError) -> str:
    """A leader that never listened, or one that did and is gone."""
    return _timeout_text(options) if isinstance(error, ConnectionRefusedError) else LEADER_GONE


def _timeout_text(options: ServeOptions) -> str:
    return RENDEZVOUS_TIMEOUT.format(
        timeout_ms=int(options.distributed_timeout_seconds * 1000),
        address=options.master_addr,
        port=options.master_port,
    )
