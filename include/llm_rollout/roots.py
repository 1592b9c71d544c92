"""Which commits on a namespace's model stores are in use, as the cluster tells it.

What cannot be read, or uses a store without saying which commits, is a reason to remove nothing: each error names the
object and what to do.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from llm_rollout import kinds, names, record
from llm_rollout.errors import Permanent
from llm_rollout.ports import Manifest, Ports
from llm_rollout.record import Record, Revision
from llm_rollout.spec import RolloutSpec

PINNED_ANNOTATION = f"{names.PREFIX}/pinned"
"""Commits that stay, separated by commas. On a model's record plain commits suffice; on a pod or LeaderWorkerSet that
uses a store in another way than by path they are ORG/NAME@COMMIT, and an empty text says that it uses none."""
GROUP_LABEL = "leaderworkerset.sigs.k8s.io/name"
"""On every pod of a LeaderWorkerSet."""

_PATH = re.compile(r"models/([A-Za-z0-9][\w.-]*?)--([\w.-]+)/([0-9a-f]{40})(?![0-9a-f])", re.ASCII)
_ROOT = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*@[0-9a-f]{40}", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")


def in_use(specs: Sequence[RolloutSpec], claim: str, ports: Ports) -> frozenset[str]:
    """Every commit in use, as ``ORG/NAME@COMMIT``; some may lie on another store of the namespace.

    That is what LeaderWorkerSets and pods name in a path ``models/<org>--<name>/<commit>``, whoever made them, and of
    each model's record: current, previous and pinned revisions, and the commits of its unfinished and its last rollout.

    Args:
        specs: All specs of one namespace, at least one.
        claim: The store's claim: who mounts it must name its commits.
        ports: The cluster.

    Raises:
        Permanent: Something cannot be read, or mounts the claim and names no commit.
        Transient: The cluster did not answer.
    """
    namespace = specs[0].namespace
    if not ports.access.serves(kinds.LEADER_WORKER_SET):
        raise Permanent("the API server knows no LeaderWorkerSet, so nobody knows what serves: install its CRD")
    found: set[str] = set()
    for kind in (kinds.LEADER_WORKER_SET, kinds.POD):
        for one in ports.cluster.list(kind, namespace):
            found |= _of_user(one, claim)
    for spec in specs:
        found |= set(_of_record(spec, ports))
    return frozenset(found)


def _of_user(one: Manifest, claim: str) -> set[str]:
    pinned = one["metadata"].get("annotations", {}).get(PINNED_ANNOTATION)
    named = set(_paths(one)) | set(_pins(pinned or "", "", one))
    if not named and pinned is None and _mounts(one, claim) and not _is_known(one):
        raise Permanent(
            f"{_called(one)} mounts the store {claim} and names no commit of it: annotate it with "
            f'{PINNED_ANNOTATION}: ORG/NAME@COMMIT, or with "" when it uses none'
        )
    return named


def _of_record(spec: RolloutSpec, ports: Ports) -> Iterator[str]:
    found = record.load(ports.cluster, spec.namespace, spec.name)
    written = ports.cluster.get(kinds.CONFIG_MAP, spec.namespace, names.record_name(spec.name))
    if written is not None:
        pinned = written["metadata"].get("annotations", {}).get(PINNED_ANNOTATION, "")
        yield from _pins(pinned, spec.model.repo, written)
    for revision in _revisions(found):
        yield from set(_paths(revision.manifests)) or {f"{spec.model.repo}@{revision.commit}"}
    for entry in found.rollouts:
        # The last rollout goes on when its tasks are cleared, however it ended.
        if entry.plan is not None and (entry.outcome is None or entry is found.rollouts[-1]):
            yield f"{entry.plan.spec.model.repo}@{entry.plan.commit}"


def _revisions(found: Record) -> Iterator[Revision]:
    displaced = (entry.displaced for entry in found.rollouts)
    yield from (one for one in (found.current, found.previous, *displaced) if one is not None)


def _paths(value: Any) -> Iterator[str]:
    for org, name, commit in _PATH.findall(json.dumps(value)):
        yield f"{org}/{name}@{commit}"


def _pins(text: str, repo: str, where: Manifest) -> Iterator[str]:
    for word in filter(None, re.split(r"[\s,]+", text)):
        if _ROOT.fullmatch(word):
            yield word
        elif repo and _COMMIT.fullmatch(word):
            yield f"{repo}@{word}"
        else:
            raise Permanent(f"{_called(where)}, annotation {PINNED_ANNOTATION}: {word!r}: write ORG/NAME@COMMIT")


def _mounts(one: Manifest, claim: str) -> bool:
    claims = (volume.get("persistentVolumeClaim", {}) for spec in _pod_specs(one) for volume in spec.get("volumes", []))
    return any(found.get("claimName") == claim for found in claims)


def _pod_specs(one: Manifest) -> Iterable[Manifest]:
    if one["kind"] == kinds.POD.kind:
        return [one["spec"]]
    templates = one["spec"]["leaderWorkerTemplate"]
    return [templates[key]["spec"] for key in ("leaderTemplate", "workerTemplate") if templates.get(key)]


def _is_known(one: Manifest) -> bool:
    """A Job's pod of ours, a pod whose LeaderWorkerSet speaks for it, or one that has ended."""
    labels = one["metadata"].get("labels", {})
    ended = one.get("status", {}).get("phase") in {"Succeeded", "Failed"}
    return names.STEP_LABEL in labels or GROUP_LABEL in labels or ended


def _called(one: Manifest) -> str:
    return f"{one['kind']} {one['metadata'].get('namespace', '')}/{one['metadata']['name']}"
