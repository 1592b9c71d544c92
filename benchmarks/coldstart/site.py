"""Where a row is played: a namespace of its own on a devcluster, with the real steps."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from kubernetes import client, config

from benchmarks.coldstart.failures import LEADER, WORKER, Failure, Manifest
from benchmarks.coldstart.watching import WATCH_SECONDS, Seen, Watcher, is_leader, is_worker, seconds
from devcluster.layout import Layout
from llm_rollout import adapters, kinds, runner
from llm_rollout.adapters.evidence import DirectoryEvidence
from llm_rollout.coldstart import patience
from llm_rollout.errors import Transient
from llm_rollout.ports import Ports
from llm_rollout.rollout import Rollout
from llm_rollout.spec import RolloutSpec
from llm_rollout.testing.simulation import FakeHub
from llm_rollout.verdict import Done, Fail, Wait

COMMIT = "1" * 40
CLAIM = "store"
RANKS = {LEADER: is_leader, WORKER: is_worker}
LOOK_SECONDS = 0.3
"""A trigger looks when something has changed, but not more often than this."""
_MOST_SECONDS = 150.0
_faults_lock = threading.Lock()
"""``devcluster fault add`` reads the list of faults and writes it."""


@dataclass(frozen=True)
class Outcome:
    """What became of a row."""

    verdict: Done | Fail | None
    """None: still waiting when the time was over."""
    named: str
    """The class that the verdict names."""
    pod: str
    seconds: float
    """From what shows the failure to the verdict; the cluster writes whole seconds, so up to 1 s is its rounding."""
    since_start: float
    kept: bool
    generations: int
    right: bool


class Site:
    """A devcluster and a model; rows may be played side by side."""

    def __init__(self, home: Path, model: Path, evidence: Path) -> None:
        self._layout = Layout(home)
        self._model = model
        self._evidence = evidence

    def play(self, number: int, row: Failure) -> Outcome:
        """One row, from the plan to the verdict."""
        name = f"cs{number:02d}"
        with self._place(name, row) as ports:
            watcher = Watcher(ports, name)
            watcher.start()
            began = time.time()
            rollout = self._begin(number, row, name, ports)
            if row.fails_node:
                self._fail_node(name, ports)
            verdict = drive("await_cold_start", rollout, ports)
            at = time.time()
            return self._outcome(row, verdict, watcher.stop(), (began, at), self._evidence / name)

    def plain(self, number: int, row: Failure, deadline_seconds: float) -> tuple[str, float]:
        """The rule of others: Available, or the deadline. What it says, and after how many seconds."""
        name = f"pl{number:02d}"
        with self._place(name, row) as ports:
            self._begin(number, row, name, ports)
            began = time.monotonic()
            while time.monotonic() - began < deadline_seconds:
                (lws,) = ports.cluster.list(kinds.LEADER_WORKER_SET, name)
                conditions = {one["type"]: one["status"] for one in lws.get("status", {}).get("conditions") or ()}
                if conditions.get("Available") == "True":
                    return "Available", time.monotonic() - began
                time.sleep(LOOK_SECONDS)
            return "the deadline is over", time.monotonic() - began

    def _begin(self, number: int, row: Failure, name: str, ports: Ports) -> Rollout:
        """Plan, break what the row wants broken, create."""
        for arguments in row.faults:
            self.command("fault", "add", *(part.format(pods=pods_of(name, row.first)) for part in arguments))
        rollout = Rollout(spec_of(name, row), f"row-{number}", f"row-{number}/1", "v1")
        for step in ("plan_rollout", "create_group"):
            ended = drive(step, rollout, ports)
            assert isinstance(ended, Done), f"{name}: {step}: {ended}"  # noqa: S101 - nothing can be measured then
            if row.quota_pods is not None and step == "plan_rollout":
                self._limit(name, row.quota_pods)
        return rollout

    def command(self, *arguments: str) -> str:
        """A command of the devcluster."""
        command = [sys.executable, "-m", "devcluster", "--home", str(self._layout.home), *arguments]
        with _faults_lock:
            done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        return done.stdout.strip()

    @contextlib.contextmanager
    def _place(self, name: str, row: Failure) -> Iterator[Ports]:
        """A namespace with a claim that holds the model, spoilt as the row asks."""
        folder = self._evidence / name
        api = config.new_client_from_config(str(self._layout.kubeconfig))
        ports = adapters.ports_from(api, DirectoryEvidence(folder))
        changing = Changing(ports.cluster, row.change) if row.change else ports.cluster
        ports = replace(ports, hub=FakeHub({"v1": COMMIT}), cluster=changing)
        before = set(json_ids(self.command("fault", "list")))
        _make(api, name)
        target = self._layout.volume(name, CLAIM) / "models" / f"org--{name}" / COMMIT
        shutil.copytree(self._model, target, copy_function=_link)
        if row.spoil:
            row.spoil(target)
        try:
            yield ports
        finally:
            self._clean(client.CoreV1Api(api), ports, name, before)

    def _clean(self, core: Any, ports: Ports, name: str, before: set[str]) -> None:
        for identifier, pods in json_ids(self.command("fault", "list")).items():
            if identifier not in before and pods.startswith(name):
                self.command("fault", "clear", identifier)
        for node in self._layout.failed_nodes():
            self.command("restore-node", node)
        for kind in (kinds.LEADER_WORKER_SET, kinds.JOB):
            for one in ports.cluster.list(kind, name):
                ports.cluster.delete(kind, name, one["metadata"]["name"], one["metadata"]["uid"])

        def gone() -> str:
            core.delete_collection_namespaced_pod(name, grace_period_seconds=0)
            return "" if ports.cluster.list(kinds.POD, name) else "gone"

        # Until then they hold a part of their nodes, which whoever comes next may want whole.
        until(gone, f"the pods of {name} to go")

    def _limit(self, name: str, pods: int) -> None:
        quota = {"metadata": {"name": "few"}, "spec": {"hard": {"pods": str(pods)}}}
        core = client.CoreV1Api(config.new_client_from_config(str(self._layout.kubeconfig)))
        core.create_namespaced_resource_quota(name, quota)

    def _fail_node(self, name: str, ports: Ports) -> None:
        def loads() -> str:
            pods = ports.cluster.list(kinds.POD, name)
            return next((p["spec"]["nodeName"] for p in pods if is_worker(p["metadata"]["name"]) and _runs(p)), "")

        self.command("fail-node", until(loads, "the worker to run"))

    def _outcome(
        self, row: Failure, verdict: Done | Fail | None, seen: Seen, span: tuple[float, float], folder: Path
    ) -> Outcome:
        began, at = span
        text = verdict.cause if isinstance(verdict, Fail) else str(verdict)
        named, pod = text.split(" ", 1)[0].rstrip(":"), _pod_in(text)
        who = RANKS.get(row.first, bool)
        showed = self._showed(row, seen, folder, at)
        right = named in row.causes and bool(who(pod) or not pod)
        return Outcome(verdict, named, pod, at - showed, at - began, keeps(folder, row), len(seen.leaders), right)

    def _showed(self, row: Failure, seen: Seen, folder: Path, at: float) -> float:
        if row.shown_by == "end":
            return min(seen.ends.values(), default=at)
        if row.shown_by == "silence":
            return _out_of_patience(logs_of(folder, row.first), row)
        return seen.events.get(row.shown_by, at)


class Changing:
    """A cluster whose admission webhook changes LeaderWorkerSets; everything else passes."""

    def __init__(self, cluster: Any, change: Callable[[Manifest], None]) -> None:
        self._cluster = cluster
        self._change = change

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cluster, name)

    def apply(self, manifest: Manifest) -> Manifest:
        """Apply what the webhook makes of it."""
        if manifest["kind"] == kinds.LEADER_WORKER_SET.kind:
            self._change(manifest)
        found: Manifest = self._cluster.apply(manifest)
        return found


def drive(step: str, rollout: Rollout, ports: Ports, most_seconds: float = _MOST_SECONDS) -> Done | Fail | None:
    """Look as a trigger does, until the step has ended."""
    deadline = time.monotonic() + most_seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(Transient):
            verdict = runner.advance(step, rollout, ports, time.time)
            if not isinstance(verdict, Wait):
                return verdict
        time.sleep(LOOK_SECONDS)
    return None


def until(check: Callable[[], str], what: str) -> str:
    """The first true answer."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if answer := check():
            return answer
        time.sleep(WATCH_SECONDS)
    raise TimeoutError(f"gave up waiting for {what}")


def spec_of(name: str, row: Failure) -> RolloutSpec:
    """A group of two nodes with one GPU each: the smallest that has a leader and a worker."""
    return RolloutSpec.model_validate({
        "name": name,
        "namespace": name,
        "model": {"repo": f"org/{name}"},
        "service": {"name": f"{name}-api"},
        "store": {"claim": CLAIM},
        "server": {
            "nodes_per_group": 2, "gpus_per_node": 1, "tensor_parallel": 1, "pipeline_parallel": 2,
            "max_model_len": 4096, "resources": {"cpu": "100m", "memory": "256Mi", "shm": "64Mi"},
            "network": {"rdma_resource": None}, "env": dict(row.env), "extra_args": row.extra_args,
        },
        "fabric": {"accept_transports": ["simulated"], "replan": False},
        "timing": {
            "cold_start_seconds": 120, "drain_seconds": 0, "bake_seconds": 0, "max_recreations": 0,
            "patience": dict(row.patience),
        },
    })  # fmt: skip


def pods_of(name: str, rank: str) -> str:
    """A glob on the pods of a rank in every revision."""
    return f"{name}-????????-0-1" if rank == WORKER else f"{name}-????????-0"


def keeps(folder: Path, row: Failure) -> bool:
    """Whether the evidence holds what shows the failure: the rank's own words, or what the cluster said."""
    own = row.shown_by in ("end", "silence")
    files = logs_of(folder, row.first) if own else list(folder.rglob("group.json"))
    return any(row.kept in path.read_text(errors="replace") for path in files)


def logs_of(folder: Path, rank: str) -> list[Path]:
    """The kept logs of a rank, or of both."""
    who = RANKS.get(rank, bool)
    return [log for log in folder.rglob("*.log") if who(log.name.partition(".")[0])]


def json_ids(listing: str) -> dict[str, str]:
    """The pods of each fault by its id."""
    return {fault["id"]: fault["pods"] for fault in json.loads(listing)}


def _pod_in(text: str) -> str:
    words = text.split()
    return words[words.index("pod") + 1].rstrip(",:") if "pod" in words else ""


def _out_of_patience(logs: Sequence[Path], row: Failure) -> float:
    """When the silence of a rank became a stall, by the product's own rule and the stamps of its log."""
    lines = [line for log in logs for line in log.read_text(errors="replace").splitlines() if line[:2] == "20"]
    stamps = sorted(seconds(line.split(" ")[0][:26] + "+00:00") for line in lines)
    gap = max((after - before for before, after in pairwise(stamps)), default=0.0)
    ((phase, _),) = row.patience.items()
    return stamps[-1] + patience.tolerated(patience.seconds(phase, row.patience, gap))


def _runs(pod: Manifest) -> bool:
    return any(
        "running" in (status.get("state") or {}) for status in pod.get("status", {}).get("containerStatuses") or ()
    )


def _make(api: Any, name: str) -> None:
    core = client.CoreV1Api(api)
    core.create_namespace({"metadata": {"name": name}})
    claim = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}}
    core.create_namespaced_persistent_volume_claim(name, {"metadata": {"name": CLAIM}, "spec": claim})


def _link(source: str, target: str) -> None:
    """The same file once more, or a copy where the two lie on different file systems."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def temporary_home() -> Path:
    """Unix sockets have short names, so a short path."""
    return Path(tempfile.mkdtemp(prefix="dc-", dir="/tmp"))
