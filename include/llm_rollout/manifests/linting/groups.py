"""L1, L2, L3, L15 and L16: LeaderWorkerSets as a whole, and the Services beside them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from llm_rollout.manifests import corrections
from llm_rollout.manifests.findings import (
    Finding,
    at,
    manifest_name,
    mapping,
    namespace_of,
    number,
    of_kind,
    own_name,
    text,
)
from llm_rollout.names import MODEL_LABEL, REVISION_LABEL
from llm_rollout.ports import Manifest

LWS = "leaderworkerset.sigs.k8s.io/"
"""The prefix of the labels that LeaderWorkerSet puts on its pods."""
_LONGEST_NAME = 51
"""What StatefulSet names and revision hashes leave of 63 characters (LeaderWorkerSet's own troubleshooting page)."""
_RESTART_POLICY = "spec.leaderWorkerTemplate.restartPolicy"
_AFTER_START = "RecreateGroupAfterStart"
_HASH_REMARK = f"""REVISION is the label {LWS}template-revision-hash of the StatefulSet that has the group's name;
with a LeaderWorkerSet for each revision, as llm-rollout makes them, its name tells the revision"""


def defects(group: Manifest, manifests: Sequence[Manifest]) -> Iterator[Finding]:
    """Everything about one LeaderWorkerSet."""
    yield from _services(group, manifests)
    yield from _names(group, manifests)
    yield from _policies(group)
    yield from _price(group)


def selectors(manifests: Sequence[Manifest]) -> Iterator[Finding]:
    """L16, a warning: a Service on a group's name also sends to groups that are still being tried."""
    for service in of_kind(manifests, "Service"):
        selector = mapping(at(service, "spec", "selector"))
        told_apart = {f"{LWS}template-revision-hash", f"{LWS}group-index", REVISION_LABEL} & selector.keys()
        if f"{LWS}name" in selector and not told_apart:
            own = [label for label in selector if not label.startswith(LWS)]
            right = {
                **dict.fromkeys(own),
                f"{LWS}worker-index": "0",
                f"{LWS}template-revision-hash": "REVISION",
            }
            where = manifest_name(service)
            corrected = corrections.inside(where, "spec", {"selector": right}, _HASH_REMARK)
            message = "selects the groups of every revision: clients also reach canary and surge groups"
            fix = f'add {LWS}worker-index: "0" and {LWS}template-revision-hash'
            yield Finding("L16", where, "spec.selector", ", ".join(selector), message, fix, "warning", corrected)


def _services(group: Manifest, manifests: Sequence[Manifest]) -> Iterator[Finding]:
    name = own_name(group)
    for service in of_kind(manifests, "Service"):
        if name and own_name(service) == name and namespace_of(service) == namespace_of(group):
            where = manifest_name(service)
            message = "LeaderWorkerSet needs this name for its headless Service; the pods' own names would not resolve"
            corrected = corrections.inside(where, "", {"metadata": {"name": f"{name}-api"}})
            fix = f"choose another name, for example {name}-api"
            yield Finding("L1", where, "metadata.name", name, message, fix, corrected=corrected)


def _names(group: Manifest, manifests: Sequence[Manifest]) -> Iterator[Finding]:
    name, where = own_name(group), manifest_name(group)
    others = {own_name(other) for other in of_kind(manifests, "LeaderWorkerSet")}
    stem, _, ordinal = name.rpartition("-")
    if ordinal.isdigit() and stem in others:
        message = f"LeaderWorkerSet {stem} gives this name to the StatefulSet of its group {ordinal}"
        fix = "do not end it with the other's name and a number"
        corrected = corrections.inside(where, "", {"metadata": {"name": f"{stem}-v{ordinal}"}})
        yield Finding("L2", where, "metadata.name", name, message, fix, corrected=corrected)
    if len(name) > _LONGEST_NAME:
        message = "too long for the names of its groups, pods and revisions"
        short = {"metadata": {"name": name[:_LONGEST_NAME].rstrip("-.")}}
        corrected = corrections.inside(where, "", short)
        fix = f"at most {_LONGEST_NAME} characters"
        yield Finding("L2", where, "metadata.name", name, message, fix, corrected=corrected)


def _policies(group: Manifest) -> Iterator[Finding]:
    where = manifest_name(group)
    if at(group, "spec", "startupPolicy") == "LeaderReady":
        message = "the leader is ready only after its workers joined, which wait for the leader"
        corrected = corrections.inside(where, "spec", {"startupPolicy": "LeaderCreated"})
        path, fix = "spec.startupPolicy", "write LeaderCreated"
        yield Finding("L3", where, path, "LeaderReady", message, fix, corrected=corrected)
    policy = text(at(group, *_RESTART_POLICY.split(".")))
    if policy in {"None", "Default"}:
        message = "a pod that restarts alone meets dead NCCL communicators"
        fix = f"write {_AFTER_START}"
        yield Finding("L3", where, _RESTART_POLICY, policy, message, fix, corrected=_after_start(where))


def _price(group: Manifest) -> Iterator[Finding]:
    """L15, warnings about changes in place; a LeaderWorkerSet of llm-rollout never changes."""
    where = manifest_name(group)
    surge = text(at(group, "spec", "rolloutStrategy", "rollingUpdateConfiguration", "maxSurge")) or "0"
    in_place = MODEL_LABEL not in mapping(at(group, "metadata", "labels"))
    if in_place and number(at(group, "spec", "replicas"), 1) == 1 and surge in {"0", "0%"}:
        message = "with one replica every change of the template in place is an outage"
        fix = "update by a second LeaderWorkerSet, as llm-rollout does, or maxUnavailable: 0 with maxSurge: 1"
        strategy = {"type": "RollingUpdate", "rollingUpdateConfiguration": {"maxUnavailable": 0, "maxSurge": 1}}
        corrected = corrections.inside(where, "spec", {"rolloutStrategy": strategy})
        yield Finding("L15", where, "spec.replicas", 1, message, fix, "warning", corrected)
    policy = text(at(group, *_RESTART_POLICY.split(".")))
    if policy in {"", "RecreateGroupOnPodRestart"}:
        message = "recreates the group without end or back-off, also while others still pull the image"
        fix = f"write {_AFTER_START}"
        yield Finding("L15", where, _RESTART_POLICY, policy or None, message, fix, "warning", _after_start(where))


def _after_start(where: str) -> str:
    return corrections.inside(where, "spec.leaderWorkerTemplate", {"restartPolicy": _AFTER_START})
