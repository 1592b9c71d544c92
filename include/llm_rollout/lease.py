"""One writer per model: a Lease names the run that may write, its transition count is the fencing token."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from llm_rollout import clock, kinds, names
from llm_rollout.ports import Cluster, Manifest

RENEW_AFTER_SECONDS = 10
"""A lease renewed more recently than this, and long enough, is not written again."""


@dataclass(frozen=True)
class Lease:
    """A model's lease as seen once. ``holder`` is empty when nobody holds it."""

    namespace: str
    model: str
    manifest: Manifest | None
    holder: str = ""
    token: int = 0
    renewed: float = 0.0
    expires: float = 0.0

    def may_take(self, run_id: str, ended: Collection[str], now: float) -> bool:
        """Whether a run may write: it holds the lease, or nobody does, or the holder is past its time or has ended."""
        return self.holder in ("", run_id) or self.holder in ended or self.expires <= now


def read(cluster: Cluster, namespace: str, model: str) -> Lease:
    """The lease of a model; one that does not exist is free."""
    manifest = cluster.get(kinds.LEASE, namespace, names.record_name(model))
    if manifest is None:
        return Lease(namespace, model, None)
    spec = manifest.get("spec", {})
    renewed = clock.seconds(spec.get("renewTime")) or 0.0
    expires = renewed + spec.get("leaseDurationSeconds", 0)
    return Lease(
        namespace, model, manifest, spec.get("holderIdentity") or "", spec.get("leaseTransitions", 0), renewed, expires
    )


def take(cluster: Cluster, lease: Lease, run_id: str, seconds: float, now: float) -> None:
    """Hold the lease for at least ``seconds`` more; the caller has asked ``may_take``.

    Raises:
        Conflict: Another run was faster; read again.
    """
    mine = lease.holder == run_id
    if mine and now - lease.renewed < RENEW_AFTER_SECONDS and lease.expires >= now + seconds - RENEW_AFTER_SECONDS:
        return
    until = max(now + seconds, lease.expires if mine else 0.0)
    spec = {
        "holderIdentity": run_id,
        "leaseTransitions": lease.token if mine else lease.token + 1,
        "acquireTime": _acquired(lease) if mine else clock.rfc3339(now),
        "renewTime": clock.rfc3339(now),
        "leaseDurationSeconds": int(until - now) + 1,
    }
    _write(cluster, lease, spec)


def release(cluster: Cluster, lease: Lease, run_id: str, now: float) -> None:
    """Give the lease back if this run holds it. The token stays, so that the next holder's is greater."""
    if lease.holder == run_id:
        spec = {"leaseTransitions": lease.token, "renewTime": clock.rfc3339(now), "leaseDurationSeconds": 1}
        _write(cluster, lease, spec)


def _acquired(lease: Lease) -> str:
    return str((lease.manifest or {})["spec"]["acquireTime"])


def _write(cluster: Cluster, lease: Lease, spec: dict[str, Any]) -> None:
    if lease.manifest is not None:
        cluster.replace({**lease.manifest, "spec": spec})
        return
    metadata = {
        "name": names.record_name(lease.model),
        "namespace": lease.namespace,
        "labels": {names.MODEL_LABEL: lease.model},
    }
    cluster.create({
        "apiVersion": kinds.LEASE.api_version, "kind": kinds.LEASE.kind, "metadata": metadata, "spec": spec,
    })  # fmt: skip
