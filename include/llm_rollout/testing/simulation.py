"""A cluster, a hub and model servers in memory, with a clock that only moves when it is told to."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from llm_rollout import kinds, runner
from llm_rollout.errors import Permanent, Transient
from llm_rollout.ports import Endpoint, HubCommit, HubFile, Kind, Manifest, Ports, Reply
from llm_rollout.rollout import Rollout
from llm_rollout.testing.cluster import FakeCluster
from llm_rollout.testing.controllers import Controllers, Ending
from llm_rollout.verdict import Done, Fail, Verdict, Wait

_SUM = re.compile(r"(\d+)\+(\d+)=")

GOOD_ENDINGS: dict[str, dict[str, Any]] = {
    "stage_weights": {
        "event": "report", "commit": "", "path": "/models", "files": 9, "bytes_total": 100, "bytes_fetched": 100,
        "bytes_reused": 0, "seconds": 2.0,
    },
    "validate_rdma": {
        "event": "report", "verdict": "PASS", "transport": "rdma", "sentence": "3 pairs at 395 Gb/s or more",
        "rows": [], "bad": [],
    },
    "evaluate_canary": {
        "event": "report", "decision": "promote", "metric": "", "sentence": "not worse in 300 pairs", "pairs": 300,
        "rounds": 6, "candidate": {"requests": 300, "errors": 0}, "stable": None,
    },
}  # fmt: skip
"""What the Jobs report when all is well."""


class Clock:
    """Seconds since the epoch; stands still until it is moved."""

    def __init__(self) -> None:
        """Begin at a fixed moment."""
        self.moment = 1_790_000_000.0

    def __call__(self) -> float:
        """Now."""
        return self.moment


class FakeLogs:
    """``ports.PodLogs`` over what the controllers let the pods print."""

    def __init__(self, controllers: Controllers) -> None:
        """Read from ``controllers.logs``."""
        self._controllers = controllers

    def tail(self, namespace: str, pod: str, container: str, lines: int, *, previous: bool = False) -> str:  # noqa: ARG002
        """See ``ports.PodLogs``."""
        text = self._controllers.logs.get((pod, previous), "")
        return "".join(text.splitlines(keepends=True)[-lines:])

    def stamped(self, namespace: str, pod: str, container: str, lines: int, *, previous: bool = False) -> str:
        """See ``ports.PodLogs``; the controllers print without times unless they put them there themselves."""
        return self.tail(namespace, pod, container, lines, previous=previous)


@dataclass
class FakeAccess:
    """``ports.Access``: everything is allowed and served, except what is named here."""

    denied: set[tuple[str, str]] = field(default_factory=set)
    """Pairs of verb and plural."""
    unserved: set[str] = field(default_factory=set)
    """Kinds."""

    def may(self, verb: str, kind: Kind, namespace: str, subresource: str = "") -> bool:  # noqa: ARG002
        """See ``ports.Access``."""
        return (verb, kind.plural) not in self.denied

    def serves(self, kind: Kind) -> bool:
        """See ``ports.Access``."""
        return kind.kind not in self.unserved


@dataclass
class FakeHub:
    """``ports.Hub``: commits by revision. ``asked`` lists the revisions that were resolved."""

    commits: dict[str, str]
    asked: list[str] = field(default_factory=list)

    def resolve(self, repo: str, revision: str, endpoint: str) -> HubCommit:  # noqa: ARG002
        """See ``ports.Hub``."""
        self.asked.append(revision)
        if revision not in self.commits:
            raise Permanent(f"{repo} has no revision {revision!r}: correct model.revision")
        weights = HubFile("model-00001-of-00001.safetensors", 1000, "0" * 64, None)
        return HubCommit(self.commits[revision], (weights, HubFile("README.md", 7, None, "0" * 40)))


@dataclass
class FakeServer:
    """``ports.ModelServer``: leaders that are ready add numbers; ``errors`` are counted in their metrics."""

    cluster: FakeCluster
    served_name: str
    errors: dict[str, int] = field(default_factory=dict)
    """Failed requests by leader."""
    finished: dict[str, int] = field(default_factory=dict)
    """All requests by leader."""
    broken: dict[str, Reply] = field(default_factory=dict)
    """Replies by path that take the place of the right ones."""

    def get(self, endpoint: Endpoint, path: str) -> Reply:
        """See ``ports.ModelServer``."""
        leader = self._leader(endpoint)
        if path in self.broken:
            return self.broken[path]
        if path == "/v1/models":
            return Reply(200, {"data": [{"id": self.served_name}]})
        return Reply(200, self._metrics(leader))

    def post(self, endpoint: Endpoint, path: str, body: Mapping[str, Any]) -> Reply:
        """See ``ports.ModelServer``."""
        self._leader(endpoint)
        if path in self.broken:
            return self.broken[path]
        choice = {"text": self._answer(body)}
        return Reply(200, {"model": body["model"], "choices": [choice], "usage": {"completion_tokens": 2}})

    def stream(self, endpoint: Endpoint, path: str, body: Mapping[str, Any]) -> Iterator[str]:
        """See ``ports.ModelServer``."""
        self._leader(endpoint)
        broken = self.broken.get(f"{path} stream")
        text = str(broken.body) if broken else self._answer(body)
        yield from (json.dumps({"choices": [{"text": letter}]}) for letter in text)
        yield "[DONE]"

    def _leader(self, endpoint: Endpoint) -> str:
        """Who answers; nobody does before a leader is ready."""
        if endpoint.resource == "services":
            found = self.cluster.get(kinds.ENDPOINT_SLICE, endpoint.namespace, endpoint.name)
            behind = [one["targetRef"]["name"] for one in (found or {}).get("endpoints", [])]
            if not behind:
                raise Transient(f"no endpoints available for service {endpoint.name}")
            return str(behind[0])
        pod = self.cluster.get(kinds.POD, endpoint.namespace, endpoint.name)
        conditions = (pod or {}).get("status", {}).get("conditions", [])
        if not any(one["type"] == "Ready" and one["status"] == "True" for one in conditions):
            raise Transient(f"connection refused by {endpoint.name}")
        return endpoint.name

    def _metrics(self, leader: str) -> str:
        labels = f'engine="0",model_name="{self.served_name}"'
        bad, every = self.errors.get(leader, 0), self.finished.get(leader, 0)
        return (
            f"vllm:num_requests_waiting{{{labels}}} 0.0\n"
            f'vllm:request_success_total{{{labels},finished_reason="stop"}} {every - bad}.0\n'
            f'vllm:request_success_total{{{labels},finished_reason="error"}} {bad}.0\n'
        )

    @staticmethod
    def _answer(body: Mapping[str, Any]) -> str:
        match = _SUM.match(body["prompt"])
        return str(int(match[1]) + int(match[2])) if match else "?"


@dataclass
class FakeEvidence:
    """``ports.Evidence`` in memory."""

    kept: dict[str, str] = field(default_factory=dict)

    def put(self, path: str, text: str) -> str:
        """See ``ports.Evidence``."""
        self.kept[path] = text
        return f"memory:{path}"


class Simulation:
    """Everything together. ``drive`` does for one step what a task and its trigger do."""

    def __init__(self, served_name: str, commits: dict[str, str]) -> None:
        """An empty cluster, a hub with these commits by revision, and Jobs that end well."""
        self.now = Clock()
        self.cluster = FakeCluster(self.now)
        self.controllers = Controllers(self.cluster, self.now)
        self.controllers.job_ends = {step: Ending(dict(line)) for step, line in GOOD_ENDINGS.items()}
        self.access = FakeAccess()
        self.hub = FakeHub(commits)
        self.server = FakeServer(self.cluster, served_name)
        self.evidence = FakeEvidence()
        logs = FakeLogs(self.controllers)
        self.ports = Ports(self.cluster, logs, self.access, self.hub, self.server, self.evidence)

    def add_nodes(self, count: int, gpus: int = 8) -> None:
        """Whole GPU nodes ``node-1`` and on, with an RDMA device."""
        offered = {"cpu": "64", "memory": "512Gi", "nvidia.com/gpu": str(gpus), "rdma/rdma_shared_device_a": "63"}
        for index in range(1, count + 1):
            self.cluster.show({
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {"name": f"node-{index}"},
                "spec": {"taints": [{"key": "nvidia.com/gpu", "effect": "NoSchedule"}]},
                "status": {
                    "allocatable": offered,
                    "conditions": [{"type": "Ready", "status": "True"}],
                    "nodeInfo": {"bootID": f"boot-{index}"},
                },
            })  # fmt: skip

    def add_claim(self, namespace: str, name: str, storage: str = "1Ti") -> None:
        """A bound model store."""
        self.cluster.show({
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"accessModes": ["ReadWriteMany"]},
            "status": {"phase": "Bound", "capacity": {"storage": storage}},
        })  # fmt: skip

    def tick(self, seconds: float = 1.0) -> None:
        """Let time pass and the controllers react."""
        self.now.moment += seconds
        self.controllers.tick()

    def drive(self, step: str, rollout: Rollout) -> Done | Fail:
        """Advance a step, wait as a trigger does, and go on until it is done, has failed, or has used its budget up."""
        waited, last = 0.0, self.now()
        verdict: Verdict = runner.advance(step, rollout, self.ports, self.now)
        while isinstance(verdict, Wait):
            if waited >= runner.deadline_seconds(step, rollout.spec):
                return runner.past_deadline(step, rollout, self.ports, self.now, waited)
            self.tick()
            waited += 1.0
            if isinstance(runner.look(step, rollout, self.ports, self.now), Wait):
                continue
            verdict = runner.advance(step, rollout, self.ports, self.now, self.now() - last)
            last = self.now()
        assert isinstance(verdict, Done | Fail)  # noqa: S101 (advance never answers Act)
        return verdict

    def objects(self, kind: Kind) -> list[Manifest]:
        """Everything of a kind."""
        return self.cluster.list(kind, "")
