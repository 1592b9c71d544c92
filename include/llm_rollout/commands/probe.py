"""Measure the RDMA fabric between nodes: every pair, both ways, every device; name what is bad.

Runs on every node. Index 0 coordinates and prints the report, the others serve it. In an Indexed Job the members
find each other by the Job's host names; by hand, give every member the same --addresses. Each member first says what
its node has and its pod was given; where that is in order, ib_write_bw and ib_write_lat run in rounds of disjoint
pairs. What is not good is tried again: together, with the others that failed, and alone.
"""

from __future__ import annotations

import argparse
import os
import shlex
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

from llm_rollout.commands import job_lines
from llm_rollout.commands.job_lines import tell
from llm_rollout.errors import Permanent, Transient

if TYPE_CHECKING:
    from llm_rollout.fabric.peer import Sources
    from llm_rollout.fabric.places import Places

SUMMARY = "measure the RDMA fabric between nodes and name what is bad"

DEFAULT_PORT = 18500


def arguments(parser: argparse.ArgumentParser) -> None:
    """Define the flags."""
    parser.add_argument("--peers", type=int, metavar="N", help="how many members, in a Job")
    parser.add_argument("--subdomain", metavar="SUFFIX", help="what follows <job>-<index>. in host names, in a Job")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="first of 2 + devices ports (%(default)s)")
    parser.add_argument("--addresses", metavar="HOST:PORT,...", help="by hand: all members in index order")
    parser.add_argument("--index", type=int, help="this member (default: JOB_COMPLETION_INDEX)")
    parser.add_argument("--node", help="this node's name (default: NODE_NAME, else the host name)")
    parser.add_argument("--join-seconds", type=float, default=240.0, help="wait for members so long (%(default)s)")
    parser.add_argument("--deadline-seconds", type=float, default=570.0, help="of the whole probe (%(default)s)")
    _traffic_arguments(parser.add_argument_group("what is measured, at index 0"))
    parser.add_argument(
        "--nccl-command",
        default="",
        metavar="COMMAND",
        help="at index 0: run this on every node where the pairs are good. It gets NODE_RANK, NNODES, MASTER_ADDR and"
        " MASTER_PORT, starts a process for each GPU, and prints what all_reduce_perf does, of one size, with NCCL's"
        " log. Sockets are a failure however fast",
    )
    _limit_arguments(parser.add_argument_group("what is good enough, at index 0"))
    sources = parser.add_argument_group("where a member reads about itself")
    sources.add_argument("--sysfs", type=Path, metavar="DIR", help="RDMA devices (default: /sys/class/infiniband)")
    sources.add_argument(
        "--annotations", type=Path, metavar="DIR", help="downward API volume with the files networks and network-status"
    )


def _traffic_arguments(group: argparse._ArgumentGroup) -> None:
    """All as the model's: other traffic would validate another network."""
    group.add_argument("--hca", action="append", default=[], metavar="mlx5_0", help="device; repeat; default: all")
    group.add_argument("--seconds-per-pair", type=int, default=5, help="for each direction (%(default)s)")
    group.add_argument("--queue-pairs", type=int, default=4, metavar="N", help="of each run (%(default)s)")
    group.add_argument("--traffic-class", type=int, metavar="0-255", help="class byte, DSCP * 4 (default: the tools')")
    group.add_argument("--service-level", type=int, metavar="0-15", help="InfiniBand only (default: the tools')")
    group.add_argument("--gid-index", type=int, metavar="N", help="default: each port's RoCE v2 GID with IPv4")
    group.add_argument(
        "--attempts", type=int, default=3, metavar="N", help="at what is not good; best counts (%(default)s)"
    )


def _limit_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--min-fraction", type=float, default=0.90, help="of the port rate; below: FAIL (%(default)s)")
    group.add_argument("--warn-fraction", type=float, default=0.95, help="below: DEGRADED (%(default)s)")
    group.add_argument(
        "--max-latency-usec", type=float, default=10.0, help="99th percentile; above: FAIL (%(default)s)"
    )


def run(options: argparse.Namespace) -> int:
    """Print JSON lines, the report last. 0 also for a bad fabric: that is a successful measurement."""
    try:
        places = _places(options)
        return _coordinate(options, places) if places.index == 0 else _take_part(options, places)
    except (Permanent, Transient) as error:
        permanent = isinstance(error, Permanent)
        remedy = "see llm-rollout probe --help" if permanent else "run it again once all members can start"
        tell(job_lines.error(type(error).__name__, str(error), remedy))
        return job_lines.EXIT_PERMANENT if permanent else job_lines.EXIT_TRANSIENT


def _coordinate(options: argparse.Namespace, places: Places) -> int:
    from llm_rollout.fabric import bench, coordinator, peer, tools  # noqa: PLC0415 - loaded only by this command
    from llm_rollout.fabric.rows import Limits  # noqa: PLC0415

    sources = _sources(options)
    traffic = tools.Traffic(options.traffic_class, options.service_level, options.queue_pairs)
    hcas = tuple(dict.fromkeys(options.hca))
    settings = coordinator.Settings(
        load=bench.Load(hcas, options.seconds_per_pair, traffic, options.gid_index),
        limits=Limits(options.min_fraction, options.warn_fraction, options.max_latency_usec),
        join_seconds=options.join_seconds,
        deadline_seconds=options.deadline_seconds,
        attempts=options.attempts,
        sources=sources,
        nccl_command=tuple(shlex.split(options.nccl_command)),
    )
    outcome = coordinator.coordinate(places, peer.own_member(_node(options), sources), settings, tell)
    tell(outcome.as_report())
    return 0


def _take_part(options: argparse.Namespace, places: Places) -> int:
    from llm_rollout.fabric import peer  # noqa: PLC0415 - as above

    sources = _sources(options)
    member = peer.own_member(_node(options), sources)
    peer.take_part(places.coordinator, places.index, member, sources, time.monotonic() + options.deadline_seconds)
    message = f"{member.node} took part as index {places.index}; the report is with index 0"
    tell({"event": "log", "message": message})
    return 0


def _sources(options: argparse.Namespace) -> Sources:
    from llm_rollout.fabric import peer, sysfs  # noqa: PLC0415 - as above

    return peer.Sources(options.sysfs or sysfs.DEFAULT, options.annotations)


def _places(options: argparse.Namespace) -> Places:
    from llm_rollout.fabric import places  # noqa: PLC0415 - as above

    index = _index(options)
    if options.addresses:
        return _enough(places.by_hand(options.addresses.split(","), index))
    if not options.peers or not options.subdomain:
        raise Permanent("--peers and --subdomain are needed in a Job, --addresses by hand")
    return _enough(places.in_job(socket.gethostname(), index, options.peers, options.subdomain, options.port))


def _enough(places: Places) -> Places:
    if len(places.members) < 2:  # noqa: PLR2004 - a pair
        raise Permanent("a probe needs two members or more: one node has no pair to measure")
    return places


def _index(options: argparse.Namespace) -> int:
    given = options.index if options.index is not None else os.environ.get("JOB_COMPLETION_INDEX", "")
    if not str(given).isdigit():
        raise Permanent("which member is this? Set JOB_COMPLETION_INDEX or --index")
    return int(given)


def _node(options: argparse.Namespace) -> str:
    return str(options.node or os.environ.get("NODE_NAME") or socket.gethostname())
