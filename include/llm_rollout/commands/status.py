"""Show what serves a model now, and how its last rollouts went, step by step.

Reads the cluster with the kubeconfig in KUBECONFIG (or the default file) and changes nothing.
"""

from __future__ import annotations

import argparse
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console, RenderableType

    from llm_rollout.measurements import Measurement
    from llm_rollout.record import Record, RolloutResult, StepResult

SUMMARY = "show what serves now and the last rollouts"

_STYLES = {"done": "green", "wait": "yellow", "fail": "red", "succeeded": "green", "rolled_back": "yellow"}
_NO_RECORD = 3


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("name", metavar="NAME", help="the model: the name in its spec")
    parser.add_argument("-n", "--namespace", default="default", help="the model's namespace (default: default)")
    parser.add_argument("--last", type=int, default=3, metavar="N", help="how many rollouts to show (default: 3)")
    parser.add_argument("--kubeconfig", metavar="FILE", help="instead of KUBECONFIG and the default file")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--json", action="store_true", help="print the whole record as JSON")
    how.add_argument(
        "--watch", action="store_true", help="go on showing it, with the phases of a start, until interrupted"
    )


def run(options: argparse.Namespace) -> int:
    """Print the record; 0, or 3 when the model has none."""
    from rich.console import Console  # noqa: PLC0415 - only this command draws tables

    from llm_rollout.adapters import cluster_of  # noqa: PLC0415 - a second of imports

    if options.watch:
        from llm_rollout.commands import status_live  # noqa: PLC0415

        return status_live.watch(options, Console())
    cluster = cluster_of(options.kubeconfig)
    return show(cluster, options, Console())


def show(cluster: Any, options: argparse.Namespace, console: Console) -> int:
    """Print the record of one model as it is in ``cluster``."""
    from llm_rollout import measurements, record  # noqa: PLC0415

    found = record.load(cluster, options.namespace, options.name)
    if not found.rollouts:
        console.print(f"no rollout of {options.name} is recorded in namespace {options.namespace}: check -n and NAME")
        return _NO_RECORD
    if options.json:
        print(found.model_dump_json(indent=2))
        return 0
    for part in parts(found, options.last):
        console.print(part)
    for line in _measured(measurements.load(cluster, options.namespace, options.name), options.last):
        console.print(line)
    return 0


def parts(found: Record, last: int) -> Iterator[RenderableType]:
    """What the record says, piece by piece."""
    for title, revision in (("current", found.current), ("previous", found.previous)):
        told = f"{revision.revision_id}  commit {revision.commit}  {revision.lws}" if revision else "none"
        yield f"[bold]{found.name}[/] {title:>8}: {told}"
    for entry in reversed(found.rollouts[-last:]):
        yield ""
        yield _table(entry)
        if entry.reason:
            yield entry.reason


def _measured(known: Sequence[Measurement], last: int) -> Iterator[RenderableType]:
    """What was measured of the fabric, in rollouts and at night."""
    from rich.text import Text  # noqa: PLC0415

    for one in reversed(known[max(0, len(known) - last) :]):
        run, nodes = one.attempt.rpartition("/")[0], ", ".join(sorted(one.nodes))
        yield Text(f"fabric {_at(one.at)}  {run}  {nodes}: {one.sentence}", "" if one.verdict == "PASS" else "red")


def _table(entry: RolloutResult) -> RenderableType:
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    outcome = entry.outcome or "running"
    title = Text(f"{entry.run_id}  {entry.revision}  {_at(entry.started)}  ") + Text(
        outcome, _STYLES.get(outcome, "red")
    )
    table = Table("step", "verdict", "seconds", "of it waited", "summary", title=title, title_justify="left")
    for step in sorted(entry.steps, key=lambda one: one.started):
        verdict = Text(step.verdict, _STYLES[step.verdict])
        table.add_row(step.step, verdict, _seconds(step), f"{step.waited_seconds:.0f}", Text(_told(step)))
    return table


def _told(step: StepResult) -> str:
    return f"{step.summary}\nremedy: {step.remedy}" if step.remedy else step.summary


def _seconds(step: StepResult) -> str:
    return f"{step.ended - step.started:.0f}" if step.ended is not None else "…"


def _at(moment: float) -> str:
    return datetime.fromtimestamp(moment).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")
