"""The command line: ``devcluster COMMAND``, ``devcluster COMMAND --help`` for each."""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from devcluster import build, control, trouble
from devcluster.layout import Layout, cache, default_home

REFUSED = 1
USAGE = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. 0 done, 1 refused or failed, 2 usage; every refusal is told with its remedy."""
    options = _parser().parse_args(arguments)
    layout = Layout(options.home.expanduser().resolve())
    from devcluster import lifecycle, programs  # noqa: PLC0415 - --help and usage errors answer at once

    try:
        code: int = options.run(layout, options)
    except (
        lifecycle.StartError,
        programs.UnsuitableError,
        build.BuildError,
        control.NotRunningError,
        ValueError,
    ) as error:
        print(f"devcluster: {error}", file=sys.stderr)
        return REFUSED
    return code


def _up(layout: Layout, options: argparse.Namespace) -> int:
    from devcluster import lifecycle  # noqa: PLC0415

    if options.foreground:
        lifecycle.die_with_parent(signal.SIGTERM)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        lifecycle.up(layout, options.nodes, options.gpus, say=_say, tied=options.foreground)
        _say(f"ready; export KUBECONFIG={layout.kubeconfig}")
        while options.foreground and lifecycle.is_running(layout):
            time.sleep(1)
    except KeyboardInterrupt:
        _say("ending it")
        lifecycle.down(layout)
    finally:
        if options.foreground:
            lifecycle.down(layout)
    return 0


def _down(layout: Layout, _: argparse.Namespace) -> int:
    from devcluster import lifecycle  # noqa: PLC0415

    _say("ended" if lifecycle.down(layout) else f"nothing runs at {layout.home}")
    return 0


def _build(_layout: Layout, _: argparse.Namespace) -> int:
    _say(str(build.programs()))
    return 0


def _status(layout: Layout, options: argparse.Namespace) -> int:
    from devcluster import status  # noqa: PLC0415

    found = status.collect(layout)
    print(json.dumps(found, indent=2) if options.json else status.text(found))
    return 0


def _kubeconfig(layout: Layout, _: argparse.Namespace) -> int:
    if not layout.kubeconfig.exists():
        raise control.NotRunningError(f"no devcluster was started at {layout.home}: `devcluster up` first")
    print(layout.kubeconfig)
    return 0


def _expose(layout: Layout, options: argparse.Namespace) -> int:
    from devcluster import exposing  # noqa: PLC0415

    print(exposing.expose(layout, options.namespace, options.service, options.port, options.local_port))
    return 0


def _logs(layout: Layout, options: argparse.Namespace) -> int:
    path: Path = layout.logs / f"{options.component}.log"
    if not path.exists():
        there = ", ".join(sorted(file.stem for file in layout.logs.glob("*.log"))) or "none, nothing was started"
        raise ValueError(f"component {options.component!r} has no log; there are: {there}")
    follow = ["--follow"] if options.follow else []
    return subprocess.run(["tail", f"--lines={options.lines}", *follow, str(path)], check=False).returncode


def _say(text: str) -> None:
    print(text, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="devcluster", description="A Kubernetes cluster on one Linux machine.")
    parser.add_argument(
        "--home",
        type=Path,
        default=default_home(),
        help=f"where its state lies (default: $DEVCLUSTER_HOME or {cache() / 'devcluster'})",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _life(commands)
    _use(commands)
    trouble.add_commands(commands)
    return parser


def _life(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser("build", help="build the control plane from Go modules (once; minutes)")
    command.set_defaults(run=_build)
    command = commands.add_parser("up", help="start an empty cluster (and build first when needed)")
    command.add_argument("--nodes", type=int, default=6, help="default: %(default)s")
    command.add_argument("--gpus", type=int, default=8, help="per node, default: %(default)s")
    command.add_argument("--foreground", action="store_true", help="stay, and end the cluster when this command ends")
    command.set_defaults(run=_up)
    command = commands.add_parser("down", help="end it and every process in it")
    command.set_defaults(run=_down)


def _use(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser("status", help="components, nodes, pods, addresses")
    command.add_argument("--json", action="store_true", help="for programs")
    command.set_defaults(run=_status)
    command = commands.add_parser("kubeconfig", help="print the kubeconfig's path")
    command.set_defaults(run=_kubeconfig)
    command = commands.add_parser("expose", help="print a URL on this machine that leads to a Service")
    command.add_argument("service")
    command.add_argument("-n", "--namespace", default="default", help="default: %(default)s")
    command.add_argument("--port", type=int, help="the Service's port (default: its first)")
    command.add_argument("--local-port", type=int, default=0, help="the port on 127.0.0.1 (default: a free one)")
    command.set_defaults(run=_expose)
    command = commands.add_parser("logs", help="print the end of a component's log")
    command.add_argument("component", help="supervisor, etcd, kube-apiserver, node-agent, ...: see status")
    command.add_argument("-f", "--follow", action="store_true", help="go on printing")
    command.add_argument("--lines", type=int, default=100, help="default: %(default)s")
    command.set_defaults(run=_logs)
