"""Kubernetes' controllers, the LeaderWorkerSet controller and the kubelets, one tick at a time."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from llm_rollout import clock, kinds, names
from llm_rollout.ports import Manifest
from llm_rollout.steps.jobs import INDEX_LABEL, JOB_NAME_LABEL
from llm_rollout.testing import routing
from llm_rollout.testing.cluster import FakeCluster
from llm_rollout.testing.routing import is_ready

_GPU = "nvidia.com/gpu"


@dataclass
class Start:
    """How the pods of a revision start. ``crashes`` is how often the leader dies before it serves."""

    seconds: float = 3.0
    crashes: int = 0
    exit_code: int = 1
    log: str = "INFO Starting to load model\n"
    last_words: str = "RuntimeError: CUDA out of memory\n"
    waiting: str = ""
    """A reason such as ErrImagePull that keeps the container from starting at all."""


@dataclass
class Ending:
    """How a Job ends: its last line of output, and whether that is a success."""

    line: dict[str, Any]
    succeeded: bool = True
    seconds: float = 2.0


@dataclass
class Controllers:
    """State in, state out: ``tick`` moves everything that a cluster would move by itself."""

    cluster: FakeCluster
    now: Callable[[], float]
    starts: dict[str, Start] = field(default_factory=dict)
    """By revision_id; others start as ``Start()``."""
    job_ends: dict[str, Ending | Callable[[Manifest], Ending]] = field(default_factory=dict)
    """By step; a function answers for each Job."""
    logs: dict[tuple[str, bool], str] = field(default_factory=dict)
    """By pod and whether of the previous life."""
    crashed: dict[str, int] = field(default_factory=dict)
    """Crashes so far, by LeaderWorkerSet."""
    accepts_routes: bool = True
    """Whether the gateway's controller is awake."""

    def tick(self) -> None:
        """One round of every controller, in the order in which they would react to each other."""
        for lws in self.cluster.list(kinds.LEADER_WORKER_SET, ""):
            self._groups(lws)
        for job in self.cluster.list(kinds.JOB, ""):
            self._job(job)
        for service in self.cluster.list(kinds.SERVICE, ""):
            routing.endpoints(self.cluster, service)
        for route in self.cluster.list(kinds.HTTP_ROUTE, "") if self.accepts_routes else ():
            routing.accept(self.cluster, route)

    def _groups(self, lws: Manifest) -> None:
        pods = self._pods(lws)
        if "deletionTimestamp" in lws["metadata"]:
            self._end(lws, pods)
            return
        wanted = dict(_members(lws))
        for pod in pods:
            if pod["metadata"]["name"] not in wanted or not _may_stay(lws, pod):
                self.cluster.forget(pod)
        there = {pod["metadata"]["name"] for pod in self._pods(lws)}
        for name, role in wanted.items():
            if name not in there:
                self._place(lws, name, role)
        for pod in self._pods(lws):
            self._run(lws, pod)
        self._report(lws)

    def _end(self, owner: Manifest, pods: list[Manifest]) -> None:
        """Dependents first; the owner is gone one round later."""
        for pod in pods:
            self.cluster.forget(pod)
        if not pods:
            self.cluster.forget(owner)

    def _pods(self, lws: Manifest) -> list[Manifest]:
        labels = {"leaderworkerset.sigs.k8s.io/name": lws["metadata"]["name"]}
        return self.cluster.list(kinds.POD, lws["metadata"]["namespace"], labels)

    def _place(self, lws: Manifest, name: str, role: str) -> None:
        template = lws["spec"]["leaderWorkerTemplate"]["leaderTemplate" if role == "leader" else "workerTemplate"]
        metadata = {
            "name": name,
            "namespace": lws["metadata"]["namespace"],
            "labels": {**template["metadata"]["labels"], "leaderworkerset.sigs.k8s.io/name": lws["metadata"]["name"]},
            "annotations": {"revision": _revision(lws)},
        }
        node = self._free_node(template["spec"])
        spec = {**template["spec"], **({"nodeName": node} if node else {})}
        placed = {
            "type": "PodScheduled",
            "status": "True" if node else "False",
            "reason": "" if node else "Unschedulable",
        }
        placed |= {
            "lastTransitionTime": clock.rfc3339(self.now()),
            "message": "" if node else "0/6 nodes are available",
        }
        status = {"phase": "Pending", "conditions": [placed], "startTime": clock.rfc3339(self.now())}
        pod = self.cluster.show(
            {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": status}
        )
        if node:
            self.event(pod, "Scheduled", f"assigned {name} to {node}")

    def _free_node(self, pod_spec: Manifest) -> str | None:
        """A node that the affinity allows and whose GPUs nobody holds."""
        affinity = pod_spec["affinity"]["nodeAffinity"].get("requiredDuringSchedulingIgnoredDuringExecution")
        every = [node["metadata"]["name"] for node in self.cluster.list(kinds.NODE, "")]
        allowed = affinity["nodeSelectorTerms"][0]["matchExpressions"][0]["values"] if affinity else every
        taken = {pod["spec"].get("nodeName") for pod in self.cluster.list(kinds.POD, "") if _holds_gpus(pod)}
        return next((node for node in allowed if node not in taken), None)

    def _run(self, lws: Manifest, pod: Manifest) -> None:
        start = self._start(lws)
        name, leads = pod["metadata"]["name"], pod["metadata"]["labels"][names.ROLE_LABEL] == "leader"
        if "nodeName" not in pod["spec"] or _ended(pod):
            return
        age = self.now() - (clock.seconds(pod["metadata"]["creationTimestamp"]) or 0.0)
        if start.waiting:
            self._show_container(pod, {"waiting": {"reason": start.waiting, "message": "no such image"}}, ready=False)
            return
        self.logs[name, False] = start.log
        dies = age >= 1 and self.crashed.get(lws["metadata"]["name"], 0) < start.crashes
        if leads and (dies or _has_crashed(pod)):
            self._crash(lws, pod, start)
            return
        ready = age >= start.seconds if leads else age >= 0
        self._show_container(pod, {"running": {"startedAt": pod["metadata"]["creationTimestamp"]}}, ready=ready)

    def _crash(self, lws: Manifest, pod: Manifest, start: Start) -> None:
        """The first tick shows the crash, the next recreates the group."""
        name = lws["metadata"]["name"]
        if _has_crashed(pod):
            if lws["spec"]["leaderWorkerTemplate"]["restartPolicy"] == "None":
                return
            self.event(lws, "RecreateGroup", f"Worker pod {pod['metadata']['name']} failed, deleted leader pod")
            for member in self._pods(lws):
                self.cluster.forget(member)
            return
        self.crashed[name] = self.crashed.get(name, 0) + 1
        self.logs[pod["metadata"]["name"], False] = start.log + start.last_words
        ended = {"exitCode": start.exit_code, "reason": "Error", "finishedAt": clock.rfc3339(self.now())}
        self._show_container(pod, {"terminated": ended}, ready=False)

    def _show_container(self, pod: Manifest, state: Manifest, *, ready: bool) -> None:
        container = {"name": pod["spec"]["containers"][0]["name"], "restartCount": 0, "state": state}
        conditions = [one for one in pod["status"]["conditions"] if one["type"] != "Ready"]
        conditions.append({"type": "Ready", "status": "True" if ready else "False"})
        phase = "Pending" if "waiting" in state else "Running"
        status = {**pod["status"], "phase": phase, "conditions": conditions, "containerStatuses": [container]}
        if status != pod["status"]:
            self.cluster.show({**pod, "status": status})

    def _report(self, lws: Manifest) -> None:
        ready, size = 0, lws["spec"]["leaderWorkerTemplate"]["size"]
        pods = {pod["metadata"]["name"]: pod for pod in self._pods(lws)}
        up = [name for name, pod in pods.items() if is_ready(pod)]
        leads = lws["metadata"]["name"].count("-") + 1
        for group in range(lws["spec"]["replicas"]):
            leader = f"{lws['metadata']['name']}-{group}"
            ready += sum(name == leader or name.startswith(f"{leader}-") for name in up) == size
        complete = ready == lws["spec"]["replicas"]
        status = {
            "observedGeneration": lws["metadata"]["generation"],
            "replicas": lws["spec"]["replicas"],
            "readyReplicas": ready,
            "updatedReplicas": sum(name.count("-") == leads and _is_updated(lws, pod) for name, pod in pods.items()),
            "conditions": [
                {"type": "Available", "status": "True" if complete else "False"},
                {"type": "Progressing", "status": "False" if complete else "True"},
            ],
        }
        if status != lws.get("status"):
            self.cluster.show({**lws, "status": status})

    def event(self, about: Manifest, reason: str, message: str, type_: str = "Normal") -> None:
        """Record an event, as the core API lists it."""
        metadata = about["metadata"]
        self.cluster.show({
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"e{len(self.cluster.list(kinds.EVENT, ''))}", "namespace": metadata["namespace"]},
            "involvedObject": {"kind": about["kind"], "name": metadata["name"], "uid": metadata["uid"]},
            "reason": reason,
            "message": message,
            "type": type_,
            "lastTimestamp": clock.rfc3339(self.now()),
        })  # fmt: skip

    def _job(self, job: Manifest) -> None:
        name, namespace = job["metadata"]["name"], job["metadata"]["namespace"]
        pods = self.cluster.list(kinds.POD, namespace, {JOB_NAME_LABEL: name})
        if "deletionTimestamp" in job["metadata"]:
            self._end(job, pods)
            return
        if job.get("status", {}).get("conditions"):
            return
        count = job["spec"].get("completions", 1)
        if not pods:
            pods = [self._job_pod(job, index) for index in range(count)]
        answer = self.job_ends.get(job["metadata"]["labels"][names.STEP_LABEL])
        ending = answer(job) if callable(answer) else answer
        age = self.now() - (clock.seconds(job["metadata"]["creationTimestamp"]) or 0.0)
        if ending is None or age < ending.seconds:
            self.logs[pods[0]["metadata"]["name"], False] = json.dumps({"event": "progress", "seconds": age})
            return
        self.logs[pods[0]["metadata"]["name"], False] = json.dumps(ending.line)
        for pod in pods:
            phase = "Succeeded" if ending.succeeded else "Failed"
            self.cluster.show({**pod, "status": {**pod["status"], "phase": phase, "conditions": []}})
        condition = {
            "type": "Complete" if ending.succeeded else "Failed",
            "status": "True",
            "reason": "PodFailurePolicy",
        }
        self.cluster.show({**job, "status": {"conditions": [{**condition, "message": "as simulated"}]}})

    def _job_pod(self, job: Manifest, index: int) -> Manifest:
        name = job["metadata"]["name"]
        labels = {**job["metadata"]["labels"], JOB_NAME_LABEL: name}
        if job["spec"].get("completionMode") == "Indexed":
            labels[INDEX_LABEL] = str(index)
        metadata = {"name": f"{name}-{index}-x", "namespace": job["metadata"]["namespace"], "labels": labels}
        spec = {**job["spec"]["template"]["spec"], "nodeName": _node_of(job, index)}
        return self.cluster.show({
            "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": {"phase": "Running"},
        })  # fmt: skip

    def _start(self, lws: Manifest) -> Start:
        return self.starts.get(lws["metadata"]["labels"].get(names.REVISION_LABEL, ""), Start())


def _members(lws: Manifest) -> list[tuple[str, str]]:
    name, size = lws["metadata"]["name"], lws["spec"]["leaderWorkerTemplate"]["size"]
    groups = range(lws["spec"]["replicas"])
    leaders = [(f"{name}-{group}", "leader") for group in groups]
    return leaders + [(f"{name}-{group}-{index}", "worker") for group in groups for index in range(1, size)]


def _node_of(job: Manifest, index: int) -> str:
    """The affinity's nodes in turn, one pod each; a Job that asks for none lands on the first of all."""
    affinity = job["spec"]["template"]["spec"].get("affinity", {}).get("nodeAffinity", {})
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    return str(required["nodeSelectorTerms"][0]["matchExpressions"][0]["values"][index]) if required else "node-1"


def _revision(lws: Manifest) -> str:
    """Of what the real controller makes a revision: a new one restarts the groups from the partition on."""
    return names.short([lws["spec"].get("networkConfig"), lws["spec"]["leaderWorkerTemplate"]])


def _may_stay(lws: Manifest, pod: Manifest) -> bool:
    group = pod["metadata"]["name"].removeprefix(f"{lws['metadata']['name']}-").partition("-")[0]
    partition = lws["spec"].get("rolloutStrategy", {}).get("rollingUpdateConfiguration", {}).get("partition", 0)
    return _is_updated(lws, pod) or int(group) < partition


def _is_updated(lws: Manifest, pod: Manifest) -> bool:
    return bool(pod["metadata"]["annotations"]["revision"] == _revision(lws))


def _holds_gpus(pod: Manifest) -> bool:
    limits = [container.get("resources", {}).get("limits", {}) for container in pod["spec"].get("containers", [])]
    return any(_GPU in limit for limit in limits) and pod.get("status", {}).get("phase") not in ("Succeeded", "Failed")


def _has_crashed(pod: Manifest) -> bool:
    return "terminated" in pod["status"].get("containerStatuses", [{}])[0].get("state", {})


def _ended(pod: Manifest) -> bool:
    return pod["status"]["phase"] in ("Succeeded", "Failed")
