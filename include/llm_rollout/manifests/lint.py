"""Known defects of LeaderWorkerSets that serve vLLM, and of what stands around them: L1 to L16."""

from __future__ import annotations

from collections.abc import Sequence

from llm_rollout.manifests.findings import Finding, Template, of_kind, templates, text
from llm_rollout.manifests.linting import commands, groups, monitoring, pods
from llm_rollout.ports import Manifest


def lint(manifests: Sequence[Manifest]) -> list[Finding]:
    """Everything that does not work in these manifests taken together, and what works at a price (warnings).

    Manifests of any shape are taken; what has not the shape of its kind is passed over.
    """
    findings = []
    for group in of_kind(manifests, "LeaderWorkerSet"):
        findings += [*groups.defects(group, manifests), *_engines(group)]
    findings += groups.selectors(manifests)
    for manifest in manifests:
        findings += monitoring.defects(manifest, manifests)
    return list(dict.fromkeys(findings))


def _engines(group: Manifest) -> list[Finding]:
    """Leader and worker for themselves, then against each other."""
    engines = {template.role: template for template in templates([group]) if _is_engine(template)}
    leader, worker = engines.get("leader"), engines.get("worker")
    findings = []
    for template in engines.values():
        findings += [*commands.defects(template, engines), *pods.defects(template)]
    return findings + (list(commands.roles(leader, worker)) if worker else [])


def _is_engine(template: Template) -> bool:
    words = [*template.arguments, text(template.container.get("image"))]
    return any("vllm" in word for word in words)
