"""Stage 2 GiB from a real web server, side by side with the hub's own client, curl and cat.

Every pair runs one after the other in turns, so that a machine that slows down slows both. Ratios are medians over
the pairs of (their wall time / ours); CPU seconds are of the whole process, per 10^9 bytes.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks.staging import replica, repository
from benchmarks.staging.contenders import Cost, Job
from benchmarks.staging.site import CAPPED_BYTES_PER_SECOND, Site, serve
from llm_rollout.staging import listing, staging

GOALS = {"HTTP": 4.0, "TLS": 2.5, "capped": 8.0}
"""Times as fast as ``snapshot_download`` and the library's verification."""
PLAN_SECONDS = 1.0
"""For a model of 812 GB whose content is on the store."""
MANY, ONE = "acme/many", "acme/one"
Contender = Callable[[Job], Cost]


def main() -> int:
    """Print the table; 1 where a goal is missed."""
    options = _parser().parse_args()
    total_bytes = options.mebibytes * 1024 * 1024
    with tempfile.TemporaryDirectory(dir=options.directory, prefix="staging-benchmark-") as name:
        folder = Path(name)
        needed = 3 * total_bytes
        if shutil.disk_usage(folder).free < needed:
            sys.exit(f"--directory {options.directory}: {needed} bytes are needed; name another or lower --mebibytes")
        print(f"writing {options.mebibytes} MiB of random shards", flush=True)
        planned_in_time = _plan(folder / "sparse")
        repository.write(folder / "models" / MANY / "main", 8, total_bytes // 8)
        repository.write(folder / "models" / ONE / "main", 1, total_bytes)
        with serve(folder / "models", folder / "site") as site:
            met = [
                _compare("HTTP", Job(site, site.http, MANY, folder / "target"), options.pairs, total_bytes),
                _compare("TLS", Job(site, site.tls, MANY, folder / "target"), options.pairs, total_bytes),
                _compare("capped", Job(site, site.capped, ONE, folder / "target"), options.capped_pairs, total_bytes),
            ]
            _limits(site, folder / "target", options.pairs, total_bytes)
    return 0 if planned_in_time and all(met) else 1


def _plan(store: Path) -> bool:
    hub = replica.fill(store)
    request = staging.Request(
        replica.REPO, "main", store, "http://127.0.0.1:9", None, (), listing.DEFAULT_EXCLUDE, 1, 0.0
    )  # fmt: skip
    report = staging.stage(request, hub, lambda _: None)
    met = report.seconds < PLAN_SECONDS
    print(
        f"plan: {report.files} files, {report.bytes_total / 1e9:.1f} GB apparent: planned, compared, header-checked, "
        f"published in {report.seconds:.3f} s, goal {PLAN_SECONDS} s: {'met' if met else 'MISSED'}\n",
        flush=True,
    )
    return met


def _compare(what: str, job: Job, pairs: int, total_bytes: int) -> bool:
    costs: dict[str, list[Cost]] = {"huggingface_hub": [], "llm_rollout": []}
    contenders: Sequence[Contender] = (Job.huggingface_hub, Job.llm_rollout)
    for pair in range(pairs):
        for contender in contenders if pair % 2 == 0 else reversed(contenders):
            costs[contender.__name__].append(contender(job))
    ratios = [
        peer.wall_seconds / ours.wall_seconds
        for peer, ours in zip(costs["huggingface_hub"], costs["llm_rollout"], strict=True)
    ]
    ratio = statistics.median(ratios)
    _table(f"{what}: {job.repo}, {pairs} pairs", costs, total_bytes)
    goal = GOALS[what]
    print(
        f"{what}: {ratio:.2f} times as fast (pairs {min(ratios):.2f} to {max(ratios):.2f}), goal {goal}: "
        f"{'met' if ratio >= goal else 'MISSED'}\n",
        flush=True,
    )
    return ratio >= goal


def _limits(site: Site, target: Path, runs: int, total_bytes: int) -> None:
    """How far from what the machine can do at all."""
    for what, endpoint in (("HTTP", site.http), ("TLS", site.tls)):
        job = Job(site, endpoint, MANY, target)
        costs: dict[str, list[Cost]] = {"llm_rollout": [], "curl": [], "cat": []}
        for _ in range(runs):
            for contender in (Job.llm_rollout, Job.curl, Job.cat):
                costs[contender.__name__].append(contender(job))
        _table(f"the limits over {what}: curl and cat check nothing", costs, total_bytes)
        print()


def _table(title: str, costs: Mapping[str, Sequence[Cost]], total_bytes: int) -> None:
    print(title)
    for name, runs in costs.items():
        wall = statistics.median(cost.wall_seconds for cost in runs)
        processor = statistics.median(cost.cpu_seconds for cost in runs)
        print(
            f"  {name:16} {wall:7.2f} s  {total_bytes / wall / 1e9:6.2f} GB/s  {processor / total_bytes * 1e9:5.2f} "
            f"CPU s/GB   (runs {', '.join(f'{cost.wall_seconds:.2f}' for cost in runs)})"
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.staging", description=__doc__)
    parser.add_argument("--pairs", type=int, default=5, help="runs of each contender (%(default)s)")
    parser.add_argument("--capped-pairs", type=int, default=5, help="of the slow part (%(default)s)")
    parser.add_argument("--mebibytes", type=int, default=2048, help="what is staged (%(default)s)")
    rate = f"{CAPPED_BYTES_PER_SECOND // 2**20} MiB/s a connection"
    parser.add_argument("--directory", default="/dev/shm", help=f"where (%(default)s: memory); the cap is {rate}")  # noqa: S108
    return parser


if __name__ == "__main__":
    sys.exit(main())
