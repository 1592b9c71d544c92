"""Known defects of LeaderWorkerSets that serve vLLM, and of what stands around them: L1 to L15."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from llm_rollout.manifests.findings import (
    Finding,
    Template,
    at,
    flags_of,
    manifest_name,
    namespace_of,
    of_kind,
    templates,
)
from llm_rollout.names import MODEL_LABEL
from llm_rollout.ports import Manifest

_LEADER_ONLY = {"--host", "--port", "--api-key", "--nnodes", "--node-rank", "--master-addr", "--headless"}
"""Flags of the API server and of a node's place in the group; all others describe the engine."""
_GONE_METRICS = {
    "vllm_gpu_cache_usage_perc": "vllm:kv_cache_usage_perc",
    "vllm:gpu_cache_usage_perc": "vllm:kv_cache_usage_perc",
    "vllm_avg_generation_throughput_toks_per_s": "rate(vllm:generation_tokens_total[1m])",
    "vllm:avg_generation_throughput_toks_per_s": "rate(vllm:generation_tokens_total[1m])",
    "vllm:time_per_output_token_seconds": "vllm:request_time_per_output_token_seconds",
}
_LONGEST_LWS_NAME = 51


def lint(manifests: Sequence[Manifest]) -> list[Finding]:
    """Everything that does not work in these manifests taken together, and what works at a price (warnings)."""
    groups = of_kind(manifests, "LeaderWorkerSet")
    engines = [template for template in templates(manifests) if _is_engine(template)]
    findings = [
        finding for group in groups for finding in (*_names(group, manifests), *_policies(group), *_price(group))
    ]
    for template in engines:
        findings += [*_environment(template), *_command(template), *_probes(template), *_volumes(template)]
    for group in groups:
        findings += _roles({template.role: template for template in engines if template.manifest is group})
    return findings + [finding for manifest in manifests for finding in _monitoring(manifest)]


def _is_engine(template: Template) -> bool:
    words = [*template.arguments, str(template.container.get("image", ""))]
    return template.manifest.get("kind") == "LeaderWorkerSet" and any("vllm" in word for word in words)


def _names(group: Manifest, manifests: Sequence[Manifest]) -> Iterator[Finding]:
    name, where = str(at(group, "metadata", "name")), manifest_name(group)
    for service in of_kind(manifests, "Service"):
        if at(service, "metadata", "name") == name and namespace_of(service) == namespace_of(group):
            message = "LeaderWorkerSet needs this name for its headless Service; the pods' own names would not resolve"
            fix = f"choose another name, for example {name}-api"
            yield Finding("L1", manifest_name(service), "metadata.name", name, message, fix)
    others = {at(other, "metadata", "name") for other in of_kind(manifests, "LeaderWorkerSet")}
    stem, _, number = name.rpartition("-")
    if number.isdigit() and stem in others:
        message = f"LeaderWorkerSet {stem} gives this name to the StatefulSet of its group {number}"
        yield Finding("L2", where, "metadata.name", name, message, "do not end it with the other's name and a number")
    if len(name) > _LONGEST_LWS_NAME:
        message = "too long for the names of its groups, pods and revisions"
        yield Finding("L2", where, "metadata.name", name, message, f"at most {_LONGEST_LWS_NAME} characters")


def _policies(group: Manifest) -> Iterator[Finding]:
    where = manifest_name(group)
    if at(group, "spec", "startupPolicy") == "LeaderReady":
        message = "the leader is ready only after its workers joined, which wait for the leader"
        yield Finding("L3", where, "spec.startupPolicy", "LeaderReady", message, "write LeaderCreated")
    policy = at(group, "spec", "leaderWorkerTemplate", "restartPolicy")
    if policy in {"None", "Default"}:
        message = "a pod that restarts alone meets dead NCCL communicators"
        path = "spec.leaderWorkerTemplate.restartPolicy"
        yield Finding("L3", where, path, policy, message, "write RecreateGroupAfterStart")


def _environment(template: Template) -> Iterator[Finding]:
    for name in template.env:
        if name.startswith("LWS_"):
            message = "LeaderWorkerSet sets it itself, drops yours, and writes no annotation to take it from"
            yield template.finding("L4", template.at("env", name), None, (message, "remove it and use $(LWS_…)"))


def _command(template: Template) -> Iterator[Finding]:
    """L5 and L6: the command of one pod for itself."""
    flags, path = flags_of(template.arguments), template.at("args")
    if "--model" in flags:
        advice = ("vllm serve takes the model as its first argument", "write command: [vllm, serve, PATH, …]")
        yield template.finding("L5", path, f"--model={flags['--model']}", advice)
    model = _model(template)
    if model and not model.startswith(("/", "$")) and template.env.get("HF_HUB_OFFLINE") != "1":
        message = "every start of every pod depends on the hub, and a branch may have moved between two of them"
        yield template.finding("L6", path, model, (message, "serve a staged path, with HF_HUB_OFFLINE=1"))
    if template.role == "leader" and "--shutdown-timeout" not in flags:
        message = "without it vLLM aborts open requests when its pod is stopped"
        advice = (message, "add --shutdown-timeout and a longer terminationGracePeriodSeconds")
        yield template.warning("L15", path, None, advice)
    yield from _ray(template, flags)


def _ray(template: Template, flags: dict[str, str]) -> Iterator[Finding]:
    """L7: a backend that nothing starts."""
    path, image = template.at("args"), str(template.container.get("image", ""))
    if flags.get("--distributed-executor-backend") == "ray":
        stock = re.search(r"vllm/vllm-openai:v0\.(\d+)", image)
        if stock and int(stock[1]) >= 19:  # noqa: PLR2004 - the first version without Ray, as the message says
            advice = ("stock images have no Ray since 0.19", "use --nnodes, --node-rank and --master-addr")
            yield template.finding("L7", template.at("image"), image, advice)
        elif template.role == "leader" and not _starts_ray(template):
            message = "nothing starts the Ray cluster that this backend asks for"
            fix = "use --nnodes, --node-rank and --master-addr, or start it with multi-node-serving.sh leader"
            yield template.finding("L7", path, "ray", (message, fix))


def _model(template: Template) -> str:
    words = template.arguments
    if "--model" in flags_of(words):
        return flags_of(words)["--model"]
    following = words[words.index("serve") + 1 :] if "serve" in words else []
    return following[0] if following and not following[0].startswith("-") else ""


def _starts_ray(template: Template) -> bool:
    return any("multi-node-serving" in word or word == "ray" for word in _programs(template))


def _programs(template: Template) -> list[str]:
    return [word for word in template.arguments if not word.startswith("--")]


def _probes(template: Template) -> Iterator[Finding]:
    """L8 and L9: a load that lasts longer than the probes allow restarts the group, forever."""
    probes, path = template.container, template.at("livenessProbe")
    liveness = probes.get("livenessProbe")
    if liveness and not probes.get("startupProbe"):
        delay = int(liveness.get("initialDelaySeconds", 0))
        least = delay + int(liveness.get("periodSeconds", 10)) * int(liveness.get("failureThreshold", 3))
        message = f"without a startupProbe a load of more than {least} s is killed, and the whole group with it"
        fix = "add a startupProbe on /health whose periodSeconds * failureThreshold is the cold-start budget"
        yield template.finding("L8", path, f"initialDelaySeconds {delay}", (message, fix))
    delay = int((probes.get("readinessProbe") or {}).get("initialDelaySeconds", 0))
    if delay > 60:  # noqa: PLR2004 - a minute of waiting for nothing is worth a line
        message = "only delays: vLLM answers /health when it is loaded, and LeaderWorkerSet waits for this probe"
        field_path = template.at("readinessProbe.initialDelaySeconds")
        yield template.finding("L9", field_path, delay, (message, "remove it, with a startupProbe before"))


def _volumes(template: Template) -> Iterator[Finding]:
    gpus = str(template.limits.get("nvidia.com/gpu", "0"))
    mounts = {mount.get("mountPath") for mount in template.container.get("volumeMounts") or ()}
    if gpus not in {"0", "1"} and "/dev/shm" not in mounts:  # noqa: S108 - the mount that NCCL needs
        message = "the container's own /dev/shm has 64 MiB; NCCL and the engine's processes exchange through it"
        advice = (message, "mount an emptyDir with medium: Memory there")
        yield template.finding("L10", template.at("volumeMounts"), None, advice)


def _roles(engines: dict[str, Template]) -> Iterator[Finding]:
    """L11 and L12: leader and workers against each other."""
    leader, worker = engines.get("leader"), engines.get("worker")
    if worker is None or at(worker.manifest, "spec", "leaderWorkerTemplate", "size") in {None, 1}:
        return
    if not _joins(worker):
        message = "every worker starts a server of its own and nobody joins the leader"
        fix = "give it --headless, --nnodes=$(LWS_GROUP_SIZE), --node-rank=$(LWS_WORKER_INDEX) and --master-addr"
        yield worker.finding("L11", worker.at("args"), " ".join(worker.arguments)[:60], (message, fix))
    if leader is None or _starts_ray(worker):
        return
    mine, its = _engine_flags(leader), _engine_flags(worker)
    for flag in sorted(mine.keys() | its.keys()):
        if mine.get(flag) != its.get(flag):
            message = f"the leader has {mine.get(flag, 'no such flag')}: the nodes would build different engines"
            advice = (message, "give all nodes the same engine flags")
            yield worker.finding("L12", worker.at("args"), f"{flag}={its.get(flag, 'missing')}", advice)


def _joins(worker: Template) -> bool:
    return "--headless" in flags_of(worker.arguments) or _starts_ray(worker)


def _engine_flags(template: Template) -> dict[str, str]:
    return {flag: value for flag, value in flags_of(template.arguments).items() if flag not in _LEADER_ONLY}


def _monitoring(manifest: Manifest) -> Iterator[Finding]:
    """L13 and L14: monitors that find nothing, and metrics that do not exist."""
    where = manifest_name(manifest)
    labels = at(manifest, "spec", "selector", "matchLabels") or {}
    own = [label for label in labels if label.startswith("leaderworkerset.sigs.k8s.io/")]
    if manifest.get("kind") == "ServiceMonitor" and own:
        message = "it selects Services; the only one with this label is LeaderWorkerSet's own, which has no ports"
        fix = "use a PodMonitor on the leaders' label with the container's named port"
        yield Finding("L13", where, "spec.selector.matchLabels", own[0], message, fix)
    if manifest.get("kind") == "HorizontalPodAutoscaler":
        yield from _scaling(manifest)
    for metric, successor in _GONE_METRICS.items():
        if re.search(rf"(?<![\w:]){re.escape(metric)}(?!\w)", _all_text(manifest.get("spec"))):
            yield Finding("L14", where, "spec", metric, "vLLM has no such metric any more", f"use {successor}")


def _scaling(autoscaler: Manifest) -> Iterator[Finding]:
    """L14, warnings: what an autoscaler of the seed's kind assumes."""
    where = manifest_name(autoscaler)
    for metric in at(autoscaler, "spec", "metrics") or ():
        name = str(at(metric, "pods", "metric", "name"))
        if name.startswith("vllm_"):
            message = f"exists only where the metrics adapter renames vLLM's {name.replace('_', ':', 1)} to it, by pod"
            yield Finding("L14", where, "spec.metrics", name, message, "check the adapter's rules", "warning")
    window = at(autoscaler, "spec", "behavior", "scaleUp", "stabilizationWindowSeconds") or 0
    if window > 0:
        message = "takes the least need of that time: it delays growth and does not wait for loading"
        path = "spec.behavior.scaleUp.stabilizationWindowSeconds"
        yield Finding("L14", where, path, window, message, "write 0", "warning")


def _all_text(value: object) -> str:
    if isinstance(value, dict):
        return " ".join(_all_text(item) for item in value.values())
    return " ".join(_all_text(item) for item in value) if isinstance(value, list) else str(value)


def _price(group: Manifest) -> Iterator[Finding]:
    """L15, warnings about changes in place; a LeaderWorkerSet of llm-rollout never changes."""
    where = manifest_name(group)
    template = at(group, "spec", "leaderWorkerTemplate") or {}
    surge = at(group, "spec", "rolloutStrategy", "rollingUpdateConfiguration", "maxSurge") or 0
    in_place = MODEL_LABEL not in (at(group, "metadata", "labels") or {})
    if in_place and int(at(group, "spec", "replicas") or 1) == 1 and surge == 0:
        message = "with one replica every change of the template in place is an outage"
        fix = "update by a second LeaderWorkerSet, as llm-rollout does, or maxUnavailable: 0 with maxSurge: 1"
        yield Finding("L15", where, "spec.replicas", 1, message, fix, "warning")
    if template.get("restartPolicy", "RecreateGroupOnPodRestart") == "RecreateGroupOnPodRestart":
        message = "recreates the group without end or back-off, also while others still pull the image"
        path, fix = "spec.leaderWorkerTemplate.restartPolicy", "write RecreateGroupAfterStart"
        yield Finding("L15", where, path, template.get("restartPolicy"), message, fix, "warning")
