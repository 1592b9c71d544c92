"""Measure the fabric between nodes of a cluster, from wherever a kubeconfig reaches it.

Starts the Job of a rollout's gate on the named nodes, follows it, prints the verdict and the matrix, and takes the Job
away again. Exit 0 when the fabric is fit (DEGRADED only where that is accepted), 3 when it is not, 4 when it could not
be told.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_rollout.commands import job_lines
from llm_rollout.commands.job_lines import EXIT_PERMANENT, EXIT_TRANSIENT, EXIT_USAGE, tell
from llm_rollout.errors import Permanent, Transient

if TYPE_CHECKING:
    from rich.console import Console

    from llm_rollout.ports import Ports
    from llm_rollout.spec import RolloutSpec

SUMMARY = "measure the fabric between nodes of a cluster"

_FIT, _UNFIT, _UNKNOWN = 0, EXIT_PERMANENT, EXIT_TRANSIENT
_STYLES = {"ok": "green", "warn": "yellow", "bad": "red", "could_not_run": "dim"}


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("--nodes", required=True, type=_nodes, metavar="A,B,...", help="two nodes or more")
    parser.add_argument("--spec", type=Path, metavar="FILE", help="measure as this model's rollout would")
    alone = parser.add_argument_group("without --spec")
    alone.add_argument("-n", "--namespace", metavar="NAME", help="where the Job runs (default: default)")
    alone.add_argument("--hca", action="append", metavar="mlx5_0", help="device; repeat (default: mlx5_0)")
    alone.add_argument("--attachment", action="append", metavar="NAME", help="network attachment of a rail; repeat")
    alone.add_argument("--rdma-resource", metavar="NAME", help="what the nodes call their RDMA device")
    alone.add_argument("--image", metavar="IMAGE", help="with perftest; default: the project's")
    alone.add_argument("--accept", action="append", metavar="TRANSPORT", help="rdma, simulated, tcp; repeat")
    alone.add_argument("--accept-degraded", action="store_true", default=None, help="DEGRADED is fit")
    alone.add_argument("--seconds-per-pair", type=int, metavar="S", help="for each direction (default: 5)")
    parser.add_argument("--kubeconfig", metavar="FILE", help="instead of KUBECONFIG and the default file")
    parser.add_argument("--json", action="store_true", help="JSON lines also on a terminal")


def run(options: argparse.Namespace) -> int:
    """Measure and print; 0 fit, 2 usage, 3 not fit, 4 not known."""
    from llm_rollout import adapters  # noqa: PLC0415 - a second of imports that other commands save
    from llm_rollout.adapters.evidence import DirectoryEvidence  # noqa: PLC0415
    from llm_rollout.spec_problems import SpecError  # noqa: PLC0415

    try:
        spec = _spec(options)
    except (SpecError, ValueError) as error:
        print(f"llm-rollout fabric: {error}", file=sys.stderr)
        return EXIT_USAGE
    job_lines.unwind_on_sigterm()
    try:
        ports = adapters.connect(options.kubeconfig, evidence=DirectoryEvidence(Path()))
        return measure(spec, options, ports)
    except (Permanent, Transient) as error:
        print(f"INCONCLUSIVE: {error}", file=sys.stderr)
        return _UNKNOWN


def measure(spec: RolloutSpec, options: argparse.Namespace, ports: Ports) -> int:
    """Measure with the given ports and say what was found."""
    from rich.console import Console  # noqa: PLC0415 - as above

    from llm_rollout import gate  # noqa: PLC0415

    for text in gate.problems(spec, options.nodes, ports):
        raise Transient(text)
    own = gate.alone(spec, options.nodes, f"{time.time_ns()}")
    console = None if options.json or not sys.stdout.isatty() else Console()
    report: Mapping[str, Any] = {}
    with contextlib.closing(gate.measure(own, options.nodes, ports, gate.Timing(time.time, time.sleep))) as lines:
        for line in lines:
            report = line
            if console is None:
                tell(line)
            elif line["event"] == "progress":
                console.print(_progress(line), style="dim", highlight=False)
    return _concluded(spec, report, console)


def _concluded(spec: RolloutSpec, report: Mapping[str, Any], console: Console | None) -> int:
    from llm_rollout.steps import fabric_report  # noqa: PLC0415 - as above
    from llm_rollout.verdict import Done  # noqa: PLC0415

    found = {key: value for key, value in report.items() if key != "event"}
    verdict = fabric_report.judge(spec, found)
    unknown = not found or found["verdict"] == "INCONCLUSIVE"
    code = _FIT if isinstance(verdict, Done) else _UNKNOWN if unknown else _UNFIT
    said = verdict.summary if isinstance(verdict, Done) else verdict.cause
    remedy = "" if isinstance(verdict, Done) else verdict.remedy
    if console is None:
        tell({"event": "verdict", "fit": code == _FIT, "exit": code, "sentence": said, "remedy": remedy})
        return code
    console.print(_matrix(found.get("rows", ())))
    console.print(said, style="green" if code == _FIT else "red", highlight=False)
    if remedy:
        console.print(f"remedy: {remedy}", highlight=False)
    return code


def _matrix(rows: Sequence[Mapping[str, Any]]) -> Any:
    """Senders down, receivers across; a cell shows the worst of its devices in Gb/s."""
    from rich.table import Table  # noqa: PLC0415 - as above
    from rich.text import Text  # noqa: PLC0415

    nodes = sorted({row[end] for row in rows for end in ("client", "server")})
    table = Table("sends \\ receives", *nodes, title="Gb/s, the worst device of each pair", title_justify="left")
    for client in nodes:
        cells = [_worst(row for row in rows if (row["client"], row["server"]) == (client, server)) for server in nodes]
        table.add_row(client, *(Text(text, _STYLES.get(status, "")) for text, status in cells))
    return table


def _worst(rows: Iterator[Mapping[str, Any]]) -> tuple[str, str]:
    order = list(_STYLES)
    found = sorted(rows, key=lambda row: (-order.index(row["status"]), row["gbps"] or 0.0))
    if not found:
        return "", ""
    worst = found[0]
    value = "not measured" if worst["gbps"] is None else f"{worst['gbps']:.4g}"
    return (value if worst["status"] == "ok" else f"{value} ({worst['hca']})"), worst["status"]


def _progress(line: Mapping[str, Any]) -> str:
    shown = {key: line[key] for key in ("phase", "round", "rounds", "pair", "done", "total", "node") if key in line}
    return ", ".join(f"{key} {value}" for key, value in shown.items()) or str(line["waiting"])


def _spec(options: argparse.Namespace) -> RolloutSpec:
    """The file's spec, or one made of the flags.

    Raises:
        SpecError: The file, or what the flags say, is no valid spec.
        ValueError: Flags contradict each other.
    """
    from llm_rollout.spec_loading import load_spec  # noqa: PLC0415 - as above

    given = _flags(options)
    if options.spec is None:
        return _made(options, given)
    if given:
        raise ValueError(f"--spec says what --{', --'.join(given)} would say: leave one of them out")
    return load_spec(options.spec)


def _flags(options: argparse.Namespace) -> dict[str, Any]:
    words = (
        "namespace",
        "hca",
        "attachment",
        "rdma_resource",
        "image",
        "accept",
        "accept_degraded",
        "seconds_per_pair",
    )
    return {word.replace("_", "-"): value for word in words if (value := getattr(options, word)) is not None}


def _made(options: argparse.Namespace, given: Mapping[str, Any]) -> RolloutSpec:
    """Only what the probe needs; the rest stands for a model that is never served."""
    from pydantic import ValidationError  # noqa: PLC0415 - as above

    from llm_rollout.spec import RolloutSpec  # noqa: PLC0415

    network = {
        "hcas": given.get("hca"),
        "attachments": given.get("attachment"),
        "rdma_resource": given.get("rdma-resource"),
    }
    fabric = {
        "accept_transports": given.get("accept"),
        "accept_degraded": given.get("accept-degraded"),
        "seconds_per_pair": given.get("seconds-per-pair"),
    }
    whole = {
        "name": "gate",
        "namespace": given.get("namespace"),
        "job_image": given.get("image"),
        "model": {"repo": "none/none"},
        "service": {"name": "none"},
        "server": {"nodes_per_group": len(options.nodes), "tensor_parallel": 1, "network": _given(network)},
        "fabric": _given(fabric),
    }
    try:
        return RolloutSpec.model_validate(_given(whole))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def _nodes(text: str) -> tuple[str, ...]:
    nodes = tuple(filter(None, text.split(",")))
    if len(nodes) < 2 or len(set(nodes)) < len(nodes):  # noqa: PLR2004 - a pair
        raise argparse.ArgumentTypeError(f"{text!r} does not name two different nodes or more, separated by commas")
    return nodes
