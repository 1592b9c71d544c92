"""L4, L8, L9 and L10: environment, probes and volumes of the pods that run the engine."""

from __future__ import annotations

from collections.abc import Iterator

from llm_rollout.manifests import corrections
from llm_rollout.manifests.findings import Finding, Template, mapping, mappings, number, text

_LWS_SETS = {"LWS_LEADER_ADDRESS", "LWS_GROUP_SIZE", "LWS_WORKER_INDEX"}
_SHM = "/dev/shm"  # noqa: S108 - the mount that NCCL needs
_LONGEST_DELAY_SECONDS = 60
"""More than a minute of waiting for nothing is worth a line."""
_BUDGET = {"periodSeconds": 5, "failureThreshold": 360}
"""1800 s, llm-rollout's default for a cold start."""
_BUDGET_REMARK = "periodSeconds * failureThreshold is the cold-start budget, here 1800 s"


def defects(template: Template) -> Iterator[Finding]:
    """Everything about one template."""
    yield from _environment(template)
    yield from _liveness(template)
    yield from _readiness(template)
    yield from _volumes(template)


def _environment(template: Template) -> Iterator[Finding]:
    for name in template.env:
        if name in _LWS_SETS:
            message = "LeaderWorkerSet sets it itself, drops yours, and writes no annotation to take it from"
            corrected = corrections.variables(template, {name: None}, f"$({name}) can be used without it")
            yield template.finding(
                "L4", template.at("env", name), None, (message, "remove it and use $(LWS_…)"), corrected
            )


def _liveness(template: Template) -> Iterator[Finding]:
    """L8: a load that lasts longer than the probes allow restarts the group, forever."""
    liveness = mapping(template.container.get("livenessProbe"))
    if not liveness or template.container.get("startupProbe"):
        return
    delay = number(liveness.get("initialDelaySeconds"))
    least = delay + number(liveness.get("periodSeconds"), 10) * number(liveness.get("failureThreshold"), 3)
    message = f"without a startupProbe a load of more than {least} s is killed, and the whole group with it"
    fix = "add a startupProbe on /health whose periodSeconds * failureThreshold is the cold-start budget"
    lines = {
        "startupProbe": {"httpGet": mapping(liveness.get("httpGet")) or _health(template), **_BUDGET},
        "livenessProbe": {"initialDelaySeconds": None},
    }
    corrected = corrections.in_container(template, lines, _BUDGET_REMARK)
    path, value = template.at("livenessProbe"), f"initialDelaySeconds {delay}"
    yield template.finding("L8", path, value, (message, fix), corrected)


def _readiness(template: Template) -> Iterator[Finding]:
    """L9: a delay after the load."""
    readiness = mapping(template.container.get("readinessProbe"))
    delay = number(readiness.get("initialDelaySeconds"))
    if delay > _LONGEST_DELAY_SECONDS:
        message = "only delays: vLLM answers /health when it is loaded, and LeaderWorkerSet waits for this probe"
        corrected = corrections.in_container(template, {"readinessProbe": {"initialDelaySeconds": None}})
        advice = (message, "remove it, with a startupProbe before")
        path = template.at("readinessProbe.initialDelaySeconds")
        yield template.finding("L9", path, delay, advice, corrected)


def _volumes(template: Template) -> Iterator[Finding]:
    gpus = text(template.limits.get("nvidia.com/gpu")) or "0"
    mounts = {text(mount.get("mountPath")) for mount in mappings(template.container.get("volumeMounts"))}
    if gpus not in {"0", "1"} and _SHM not in mounts:
        message = "the container's own /dev/shm has 64 MiB; NCCL and the engine's processes exchange through it"
        advice = (message, "mount an emptyDir with medium: Memory there")
        volume = {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "64Gi"}}
        corrected = corrections.together(
            corrections.in_container(template, {"volumeMounts": [{"name": "shm", "mountPath": _SHM}]}),
            corrections.in_pod(template, {"spec": {"volumes": [volume]}}),
        )
        yield template.finding("L10", template.at("volumeMounts"), None, advice, corrected)


def _health(template: Template) -> dict[str, object]:
    ports = mappings(template.container.get("ports"))
    return {"path": "/health", "port": ports[0].get("containerPort", 8000) if ports else 8000}
