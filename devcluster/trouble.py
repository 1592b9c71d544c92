"""Commands that break things on purpose: nodes that play dead, faults in pods, a slow or broken fabric."""

from __future__ import annotations

import argparse
import json
import secrets
from collections.abc import Callable
from typing import Any

from devcluster.layout import Layout, write_json

Commands = argparse._SubParsersAction  # noqa: SLF001 - argparse has no public name for it

FAULTS = {
    "crash": "exit with --exit-code at once",
    "crash_after": "exit with --exit-code --seconds after the start",
    "hang": "run and do nothing",
    "slow_start": "wait --seconds before the container's own command",
    "image_pull": "the image cannot be pulled: the registry has none of that name",
    "image_denied": "the image cannot be pulled: the registry asks for a login",
    "image_unreachable": "the image cannot be pulled: the registry does not answer",
    "slow_pull": "pulling the image takes --seconds",
    "mount": "the storage server of the pod's claim does not answer",
    "kill": "SIGKILL --seconds after the start",
    "oom": "killed for its memory --seconds after the start",
    "evict": "the node needs the room --seconds after the start: the whole pod fails",
    "startup_probe": "the startup probe loses patience --seconds after the start",
    "unschedulable": "no node takes the pod",
}
PORT_STATES = ("ACTIVE", "DOWN", "INIT", "ARMED")


def add_commands(commands: Commands[argparse.ArgumentParser]) -> None:
    """Add ``fail-node``, ``restore-node``, ``fault`` and ``fabric``."""
    for name, text, act in (
        ("fail-node", "a node loses power: its processes die, its heartbeat and reports stop", _fail_node),
        ("restore-node", "the node comes back", _restore_node),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("node", help="node-1, node-2, ...")
        command.set_defaults(run=act)
    _add_fault(commands.add_parser("fault", help="faults in pods and containers that start from now on"))
    _add_fabric(commands.add_parser("fabric", help="the simulated RDMA fabric"))


def _fail_node(layout: Layout, options: argparse.Namespace) -> int:
    return _set_failed(layout, options.node, lambda failed: failed | {options.node})


def _restore_node(layout: Layout, options: argparse.Namespace) -> int:
    return _set_failed(layout, options.node, lambda failed: failed - {options.node})


def _set_failed(layout: Layout, node: str, change: Callable[[set[str]], set[str]]) -> int:
    _known(layout, node)
    write_json(layout.failed_nodes_file, sorted(change(layout.failed_nodes())))
    return 0


def _known(layout: Layout, *nodes: str) -> None:
    there = layout.read_state().get("nodes", [])
    for node in nodes:
        if node not in there:
            raise ValueError(f"node {node!r} is none of {', '.join(there) or 'a running devcluster'}")


def _add_fault(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    kinds = "\n".join(f"  {kind:18} {text}" for kind, text in FAULTS.items())
    command = actions.add_parser(
        "add",
        help="print the new fault's id",
        epilog=f"kinds:\n{kinds}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("kind", choices=FAULTS)
    command.add_argument("pods", help="glob on pod names, for instance 'llama-*-0-1'")
    command.add_argument("--container", default="*", help="glob on container names, default: all")
    command.add_argument("--seconds", type=float, default=0.0, help="for those that say so, default: 0")
    command.add_argument(
        "--said", help="wait until the container has printed this: for kill, oom, evict, startup_probe"
    )
    command.add_argument("--times", type=int, help="end after this many containers (default: never)")
    command.add_argument("--exit-code", type=int, default=1, help="for crash and crash_after, default: %(default)s")
    command.set_defaults(run=_fault_add)
    actions.add_parser("list", help="print all as JSON").set_defaults(run=_fault_list)
    command = actions.add_parser("clear", help="remove one or all")
    command.add_argument("id", nargs="?", help="default: all")
    command.set_defaults(run=_fault_clear)


def _fault_add(layout: Layout, options: argparse.Namespace) -> int:
    fault = {"id": secrets.token_hex(4), "kind": options.kind, "pods": options.pods, "container": options.container}
    fault |= {"seconds": options.seconds, "times": options.times, "exit_code": options.exit_code}
    fault |= {"said": options.said}
    write_json(layout.faults_file, [*_faults(layout), fault])
    print(fault["id"])
    return 0


def _fault_list(layout: Layout, _: argparse.Namespace) -> int:
    print(json.dumps(_faults(layout), indent=2))
    return 0


def _fault_clear(layout: Layout, options: argparse.Namespace) -> int:
    faults = _faults(layout)
    if options.id and options.id not in {fault["id"] for fault in faults}:
        raise ValueError(f"fault {options.id!r} does not exist: see `devcluster fault list`")
    write_json(layout.faults_file, [fault for fault in faults if options.id and fault["id"] != options.id])
    return 0


def _faults(layout: Layout) -> list[dict[str, Any]]:
    _running(layout)
    faults: list[dict[str, Any]] = json.loads(layout.faults_file.read_text())
    return faults


def _running(layout: Layout) -> None:
    if not layout.read_state():
        raise ValueError(f"nothing runs at {layout.home}: `devcluster up` first, it starts without faults")


def _add_fabric(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    actions.add_parser("show", help="print it as JSON").set_defaults(run=_fabric_show)
    command = actions.add_parser("link", help="limit what two nodes reach between each other")
    command.add_argument("nodes", nargs=2, metavar="NODE")
    command.add_argument("--gbps", type=float, required=True, help="10^9 bits per second")
    command.add_argument("--hca", help="on this port only (default: on all)")
    command.set_defaults(run=_fabric_link)
    command = actions.add_parser("port", help="change one node's port")
    command.add_argument("node", metavar="NODE")
    command.add_argument("--hca", default="mlx5_0", help="default: %(default)s")
    command.add_argument("--gbps", type=float, help="what it carries, 10^9 bits per second")
    command.add_argument("--state", choices=PORT_STATES, help="its state")
    command.set_defaults(run=_fabric_port)
    actions.add_parser("reset", help="remove every limit").set_defaults(run=_fabric_reset)


def _fabric(layout: Layout) -> dict[str, Any]:
    _running(layout)
    fabric: dict[str, Any] = json.loads(layout.fabric_file.read_text())
    return fabric


def _fabric_show(layout: Layout, _: argparse.Namespace) -> int:
    print(json.dumps(_fabric(layout), indent=2))
    return 0


def _fabric_link(layout: Layout, options: argparse.Namespace) -> int:
    fabric = _fabric(layout)
    _known(layout, *options.nodes)
    link = {"nodes": options.nodes, "hca": options.hca, "gbps": options.gbps}
    same = {(frozenset(options.nodes), options.hca)}
    kept = [old for old in fabric["links"] if (frozenset(old["nodes"]), old.get("hca")) not in same]
    write_json(layout.fabric_file, fabric | {"links": [*kept, link]})
    return 0


def _fabric_port(layout: Layout, options: argparse.Namespace) -> int:
    fabric = _fabric(layout)
    _known(layout, options.node)
    if options.hca not in fabric["hcas"]:
        raise ValueError(f"--hca {options.hca}: the fabric has {', '.join(fabric['hcas'])}")
    port = {name: value for name in ("gbps", "state") if (value := getattr(options, name)) is not None}
    ports = fabric["nodes"].setdefault(options.node, {})
    ports[options.hca] = ports.get(options.hca, {}) | port
    write_json(layout.fabric_file, fabric)
    return 0


def _fabric_reset(layout: Layout, _: argparse.Namespace) -> int:
    write_json(layout.fabric_file, _fabric(layout) | {"links": [], "nodes": {}})
    return 0
