"""L13 and L14: monitors that find nothing, and metrics that do not exist."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from llm_rollout.manifests import corrections
from llm_rollout.manifests.findings import (
    Finding,
    at,
    manifest_name,
    mapping,
    mappings,
    number,
    of_kind,
    own_name,
    text,
)
from llm_rollout.manifests.linting.groups import LWS
from llm_rollout.ports import Manifest

_GONE = {
    "gpu_cache_usage_perc": "kv_cache_usage_perc",
    "avg_generation_throughput_toks_per_s": "generation_tokens_total",
    "time_per_output_token_seconds": "request_time_per_output_token_seconds",
}
"""Metrics that vLLM 0.33 no longer has, and what came after them."""
_EXPRESSIONS = {"avg_generation_throughput_toks_per_s": "rate(vllm:generation_tokens_total[1m])"}
"""A gauge that went away is a rate over a counter."""
_METRICS = (
    "num_requests_running",
    "num_requests_waiting",
    "kv_cache_usage_perc",
    "num_preemptions_total",
    "prompt_tokens_total",
    "generation_tokens_total",
    "request_success_total",
    "time_to_first_token_seconds",
    "inter_token_latency_seconds",
    "e2e_request_latency_seconds",
)
"""Metrics of vLLM 0.33 after ``vllm:``."""
_QUERIES = {"PrometheusRule", "ScaledObject"}
"""Kinds whose text Prometheus itself evaluates; autoscalers see what a metrics adapter makes of it."""
_ADAPTER_REMARK = "add the rule to the configuration of your metrics adapter, under whatever name that has"


def defects(manifest: Manifest, manifests: Sequence[Manifest]) -> Iterator[Finding]:
    """Everything about one monitor, rule or autoscaler."""
    kind = text(manifest.get("kind"))
    yield from _monitor(manifest, manifests)
    if kind == "HorizontalPodAutoscaler":
        yield from _scaling(manifest, manifests)
    yield from _names(manifest)


def _monitor(manifest: Manifest, manifests: Sequence[Manifest]) -> Iterator[Finding]:
    labels = mapping(at(manifest, "spec", "selector", "matchLabels"))
    own = [label for label in labels if label.startswith(LWS)]
    if manifest.get("kind") == "ServiceMonitor" and own:
        where = manifest_name(manifest)
        message = "it selects Services; the only one with this label is LeaderWorkerSet's own, which has no ports"
        fix = "use a PodMonitor on the leaders' label with the container's named port"
        corrected = corrections.instead(where, _pod_monitor(manifest, manifests))
        yield Finding("L13", where, "spec.selector.matchLabels", own[0], message, fix, corrected=corrected)


def _pod_monitor(monitor: Manifest, manifests: Sequence[Manifest]) -> dict[str, Any]:
    """The same endpoints on the leaders' pods, in the namespace of the group where none is said."""
    labels = mapping(at(monitor, "spec", "selector", "matchLabels"))
    metadata = mapping(monitor.get("metadata"))
    groups = [one for one in of_kind(manifests, "LeaderWorkerSet") if own_name(one) == labels.get(f"{LWS}name")]
    namespace = metadata.get("namespace") or next((at(one, "metadata", "namespace") for one in groups), None)
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PodMonitor",
        "metadata": {**metadata, **({"namespace": namespace} if namespace else {})},
        "spec": {
            "selector": {"matchLabels": {**labels, f"{LWS}worker-index": "0"}},
            "podMetricsEndpoints": mappings(at(monitor, "spec", "endpoints")) or [{"port": "http", "path": "/metrics"}],
        },
    }


def _names(manifest: Manifest) -> Iterator[Finding]:
    """Names that vLLM does not export; the corrected lines put all of a manifest's right at once."""
    where, written = manifest_name(manifest), _all_text(manifest.get("spec"))
    renamed = [(found, right, message) for found, right, message in _renames(manifest) if found.search(written)]
    lines = manifest.get("spec")
    for found, right, _ in renamed:
        lines = _rewritten(lines, found, right)
    corrected = corrections.inside(where, "", {"spec": lines})
    for found, right, message in renamed:
        metric = found.findall(written)[0]
        yield Finding("L14", where, "spec", metric, message, f"use {right}", corrected=corrected)


def _renames(manifest: Manifest) -> Iterator[tuple[re.Pattern[str], str, str]]:
    """Each name that is wrong in this kind, its right form and why."""
    kind = text(manifest.get("kind"))
    adapted = kind == "HorizontalPodAutoscaler"
    for name, successor in _GONE.items():
        plain = f"vllm{'_' if adapted else ':'}{successor}"
        right = plain if adapted else _EXPRESSIONS.get(name, plain)
        yield re.compile(rf"(?<![\w:])vllm[_:]{name}(?!\w)"), right, "vLLM has no such metric any more"
    for name in _METRICS if kind in _QUERIES else ():
        message = "vLLM's metrics begin with vllm: and Prometheus keeps the colon, so this query finds nothing"
        yield re.compile(rf"(?<![\w:])vllm_{name}(?=_(?:sum|count|bucket)\b|\b)"), f"vllm:{name}", message


def _scaling(autoscaler: Manifest, manifests: Sequence[Manifest]) -> Iterator[Finding]:
    """Warnings: what an autoscaler assumes of adapter and time."""
    where = manifest_name(autoscaler)
    rules = " ".join(_all_text(one.get("data")) for one in of_kind(manifests, "ConfigMap"))
    for metric in mappings(at(autoscaler, "spec", "metrics")):
        name = text(at(metric, "pods", "metric", "name"))
        if name.startswith("vllm_") and not re.search(rf"\bas:\s*[\"']?{re.escape(name)}\b", rules):
            source = name.replace("_", ":", 1)
            message = f"exists only where the metrics adapter renames vLLM's {source} to it, by pod"
            corrected = corrections.beside(where, _adapter_rule(name, source), _ADAPTER_REMARK)
            fix = "check the adapter's rules"
            yield Finding("L14", where, "spec.metrics", name, message, fix, "warning", corrected)
    window = number(at(autoscaler, "spec", "behavior", "scaleUp", "stabilizationWindowSeconds"))
    if window > 0:
        message = "takes the least need of that time: it delays growth and does not wait for loading"
        path = "spec.behavior.scaleUp.stabilizationWindowSeconds"
        corrected = corrections.inside(where, "spec.behavior", {"scaleUp": {"stabilizationWindowSeconds": 0}})
        yield Finding("L14", where, path, window, message, "write 0", "warning", corrected)


def _adapter_rule(name: str, source: str) -> dict[str, Any]:
    rule = f"""rules:
- seriesQuery: '{source}'
  resources: {{overrides: {{namespace: {{resource: namespace}}, pod: {{resource: pod}}}}}}
  name: {{as: {name}}}
  metricsQuery: 'avg(<<.Series>>{{<<.LabelMatchers>>}}) by (<<.GroupBy>>)'
"""
    metadata = {"name": "prometheus-adapter", "namespace": "monitoring"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"config.yaml": rule}}


def _rewritten(value: Any, found: re.Pattern[str], right: str) -> Any:
    """The value with a name replaced in every text of it."""
    if isinstance(value, dict):
        return {key: _rewritten(one, found, right) for key, one in value.items()}
    if isinstance(value, list):
        return [_rewritten(one, found, right) for one in value]
    return found.sub(lambda _: right, value) if isinstance(value, str) else value


def _all_text(value: object) -> str:
    if isinstance(value, dict):
        return " ".join(_all_text(item) for item in value.values())
    return " ".join(_all_text(item) for item in value) if isinstance(value, list) else str(value)
