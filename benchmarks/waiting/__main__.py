"""A thousand waits in one process on a real API server: one shared watch, beside polling every 5 s and every second.

Every contender runs in a process of its own, one after the other, on a devcluster of its own. Each wait is that of
``stage_weights`` for a Job whose pod has not started; nothing changes until some of the Jobs end. A wait of the shared
watch still looks unasked now and then, for what a pod prints is no change of an object.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from kubernetes import config

from benchmarks.waiting import contenders, models
from benchmarks.waiting.contenders import Cost
from devcluster import lifecycle
from devcluster.layout import Layout

MOST_CPU, MOST_SECONDS = 0.5, 2.0
"""Of one core, and from a change to its verdict."""
HEAD = """| | CPU seconds per second | requests/s | looks/s | verdict after a change, median / worst |
|---|---|---|---|---|"""
OURS, PEER = "one shared watch", "polling every 5 s"


def main() -> int:
    """Print the table; 1 where a goal is missed."""
    options = _parser().parse_args()
    home = Path(tempfile.mkdtemp(prefix="dc-", dir="/tmp"))
    layout = Layout(home / "cluster")
    os.environ |= {"AIRFLOW_HOME": str(home / "airflow"), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
    try:
        lifecycle.up(layout, 1, 8, say=_say, tied=True)
        print(f"{options.waits} waits in one process\n\n{HEAD}", flush=True)
        costs = {}
        for name in contenders.WAYS:
            costs[name] = _cost(name, layout, options)
            print(_row(name, costs[name]), flush=True)
    finally:
        lifecycle.down(layout)
        shutil.rmtree(home, ignore_errors=True)
    _compare(costs[OURS], costs[PEER])
    return 0 if _goals(costs) else 1


def _cost(name: str, layout: Layout, options: argparse.Namespace) -> Cost:
    _say(f"{name}: {options.waits} waits")
    with config.new_client_from_config(str(layout.kubeconfig)) as client:
        models.clear(client)
        jobs = models.create(client, options.waits)
    spawning = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawning) as pool:
        return pool.submit(
            contenders.measure, name, str(layout.kubeconfig), jobs, options.settle_seconds, options.seconds
        ).result()


def _row(name: str, cost: Cost) -> str:
    return (
        f"| {name} | {cost.cpu_seconds_per_second:.2f} | {cost.requests_per_second:.0f} | "
        f"{cost.looks_per_second:.0f} | {cost.median_seconds:.2f} s / {cost.worst_seconds:.2f} s |"
    )


def _compare(ours: Cost, peer: Cost) -> None:
    print(
        f"\nbeside {PEER}: {peer.cpu_seconds_per_second / ours.cpu_seconds_per_second:.1f} times less CPU, "
        f"{peer.requests_per_second / ours.requests_per_second:.1f} times fewer requests, slowest verdict "
        f"{peer.worst_seconds / ours.worst_seconds:.0f} times sooner"
    )


def _goals(costs: Mapping[str, Cost]) -> bool:
    cpu, seconds = costs[OURS].cpu_seconds_per_second, costs[OURS].worst_seconds
    print(f"- CPU: {cpu:.2f} of a core, goal at most {MOST_CPU}: {_met(cpu, MOST_CPU)}")
    print(f"- slowest verdict: {seconds:.2f} s, goal at most {MOST_SECONDS} s: {_met(seconds, MOST_SECONDS)}")
    return cpu <= MOST_CPU and seconds <= MOST_SECONDS


def _met(value: float, most: float) -> str:
    return "met" if value <= most else "MISSED"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.waiting", description=__doc__)
    parser.add_argument("--waits", type=int, default=1000, help="at the same time (%(default)s)")
    parser.add_argument("--settle-seconds", type=float, default=30.0, help="before measuring (%(default)s)")
    parser.add_argument("--seconds", type=float, default=30.0, help="to measure (%(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
