"""The phases of a start as they go by: one line for each rank, from the cluster itself, below what the record says."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from llm_rollout import record
from llm_rollout.coldstart import remaining, starting
from llm_rollout.coldstart.stalls import Expected
from llm_rollout.commands import status
from llm_rollout.errors import Transient
from llm_rollout.rollout import Rollout
from llm_rollout.steps import await_cold_start, group_state

if TYPE_CHECKING:
    from llm_rollout.coldstart.starting import Rank
    from llm_rollout.ports import Ports
    from llm_rollout.record import Record

_EVERY_SECONDS = 2.0
_BAR_WIDTH = 20
_MEGABYTE = 1e6


def watch(options: argparse.Namespace, console: Console) -> int:
    """Show one model until interrupted. An API server that does not answer is asked again."""
    from llm_rollout.adapters import connect  # noqa: PLC0415 - a second of imports
    from llm_rollout.adapters.evidence import DirectoryEvidence  # noqa: PLC0415

    ports = connect(options.kubeconfig, evidence=DirectoryEvidence(Path()))
    with Live(console=console, auto_refresh=False) as live:
        try:
            while True:
                live.update(_screen_or_trouble(ports, options), refresh=True)
                time.sleep(_EVERY_SECONDS)
        except KeyboardInterrupt:
            return 0


def screen(ports: Ports, options: argparse.Namespace) -> RenderableType:
    """What the record says, and the phases of a start that goes on."""
    found = record.load(ports.cluster, options.namespace, options.name)
    return Group(*status.parts(found, options.last), *_start(found, ports))


def _screen_or_trouble(ports: Ports, options: argparse.Namespace) -> RenderableType:
    try:
        return screen(ports, options)
    except Transient as error:
        return Text(f"could not look, trying again: {error}", "yellow")


def _start(found: Record, ports: Ports) -> list[RenderableType]:
    """Nothing unless the newest run goes on and its candidate does not serve yet."""
    entry = found.rollouts[-1] if found.rollouts else None
    if entry is None or entry.outcome is not None or entry.plan is None:
        return []
    rollout = Rollout(entry.plan.spec, entry.run_id, f"{entry.run_id}/0", entry.revision, plan=entry.plan)
    seen = await_cold_start.observe(rollout, ports)
    if seen.lws is None or not group_state.not_serving(seen):
        return []
    expected = Expected(weights_bytes=entry.plan.weights_bytes, durations=seen.durations)
    ranks = await_cold_start.ranks_of(seen)
    slow = [starting.behind(group)[0] for group in starting.groups(ranks).values()]
    return [_table(ranks), Text(_told(remaining.estimate(slow, expected)))]


def _table(ranks: tuple[Rank, ...]) -> Table:
    table = Table("pod", "node", "phase", "", "%", "last line", title="the candidate starts", title_justify="left")
    for rank in ranks:
        share = rank.percent
        bar: RenderableType = ProgressBar(completed=share, width=_BAR_WIDTH) if share is not None else ""
        phase = "ready" if rank.ready and rank.leads else rank.phase
        table.add_row(rank.pod, rank.node, phase, bar, "" if share is None else f"{share:.0f}", Text(rank.line[-80:]))
    return table


def _told(estimate: remaining.Estimate) -> str:
    rate = f"{estimate.bytes_per_second / _MEGABYTE:.0f} MB/s" if estimate.bytes_per_second else "rate not known yet"
    left = f"about {estimate.seconds_left:.0f} s left" if estimate.seconds_left is not None else "time left not known"
    return f"{rate}, {left}"
