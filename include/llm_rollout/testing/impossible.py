"""States that no cluster can show: a test that starts from one proves nothing."""

from __future__ import annotations

from llm_rollout import kinds
from llm_rollout.ports import Manifest


def refuse_impossible(manifest: Manifest) -> None:
    """Check an object before it is stored.

    Raises:
        AssertionError: No real cluster could show it; says which field contradicts which.
    """
    metadata, status = manifest["metadata"], manifest.get("status", {})
    name = f"{manifest['kind']} {metadata.get('name')}"
    _refuse(not metadata.get("name"), f"{name}: an object without a name")
    _refuse("deletionTimestamp" in metadata and not metadata.get("finalizers"), f"{name}: going without a finalizer")
    seen, generation = status.get("observedGeneration", 0), metadata.get("generation", 0)
    _refuse(seen > generation, f"{name}: observed generation {seen} of {generation}")
    check = {kinds.POD.kind: _pod, kinds.JOB.kind: _job, kinds.LEADER_WORKER_SET.kind: _groups}.get(manifest["kind"])
    if check is not None:
        check(manifest, name)


def _pod(pod: Manifest, name: str) -> None:
    status, ready = pod.get("status", {}), _is(pod, "Ready")
    phase = status.get("phase")
    _refuse(ready and phase != "Running", f"{name}: Ready in phase {phase}")
    _refuse(phase == "Running" and not pod.get("spec", {}).get("nodeName"), f"{name}: Running on no node")
    for container in status.get("containerStatuses") or []:
        state, restarts = container.get("state", {}), container.get("restartCount", 0)
        _refuse(len(state) > 1, f"{name}: container {container['name']} in states {', '.join(state)} at once")
        _refuse("lastState" in container and not restarts, f"{name}: a last state without a restart")
        _refuse(ready and "running" not in state, f"{name}: Ready with container {container['name']} not running")


def _job(job: Manifest, name: str) -> None:
    _refuse(_is(job, "Complete") and _is(job, "Failed"), f"{name}: Complete and Failed")


def _groups(lws: Manifest, name: str) -> None:
    status = lws.get("status", {})
    replicas, ready = lws["spec"].get("replicas", 1), status.get("readyReplicas", 0)
    _refuse(_is(lws, "Available") and _is(lws, "UpdateInProgress"), f"{name}: Available while an update is in progress")
    current = status.get("observedGeneration") == lws["metadata"].get("generation")
    _refuse(
        current and _is(lws, "Available") and ready < replicas, f"{name}: Available with {ready} of {replicas} ready"
    )


def _is(manifest: Manifest, type_: str) -> bool:
    conditions = manifest.get("status", {}).get("conditions") or []
    return any(one["type"] == type_ and one["status"] == "True" for one in conditions)


def _refuse(wrong: bool, what: str) -> None:  # noqa: FBT001 (a predicate and its message)
    if wrong:
        raise AssertionError(f"no cluster shows this: {what}")
