"""What the steps need from the outside, as protocols. Only ``llm_rollout.adapters`` implements them.

All ports are synchronous; a trigger calls them in a thread. All raise ``errors.Transient`` when the
outside did not answer and ``errors.Permanent`` when it refused for good.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

Manifest = dict[str, Any]
"""A Kubernetes object as JSON."""


@dataclass(frozen=True)
class Kind:
    """A resource type: ``api_version`` such as ``apps/v1``, ``kind`` and its ``plural``."""

    api_version: str
    kind: str
    plural: str
    namespaced: bool = True

    @property
    def group(self) -> str:
        """The API group, empty for the core group."""
        return self.api_version.rpartition("/")[0]


class Cluster(Protocol):
    """Read and write Kubernetes objects."""

    def get(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        """The object, or None when it (or its whole kind) does not exist."""

    def list(self, kind: Kind, namespace: str, labels: Mapping[str, str] | None = None) -> Sequence[Manifest]:
        """All objects that carry all of ``labels``; empty when the kind does not exist. Namespace "" means all."""

    def apply(self, manifest: Manifest) -> Manifest:
        """Server-side apply as field manager ``llm-rollout``. A foreign owner of a field is ``Permanent``."""

    def create(self, manifest: Manifest) -> Manifest:
        """Create; ``Conflict`` when an object of that name exists."""

    def replace(self, manifest: Manifest) -> Manifest:
        """Replace at ``metadata.resourceVersion``; ``Conflict`` when it has moved on."""

    def delete(self, kind: Kind, namespace: str, name: str, uid: str) -> None:
        """Delete in the foreground the object with exactly this UID; gone already is fine."""


class PodLogs(Protocol):
    """Read what containers print."""

    def tail(self, namespace: str, pod: str, container: str, lines: int, *, previous: bool = False) -> str:
        """The last lines, "" when there are none or the container has not started."""

    def stamped(self, namespace: str, pod: str, container: str, lines: int, *, previous: bool = False) -> str:
        """As ``tail``, with the time in RFC 3339 at which the container printed it before each line."""


class Access(Protocol):
    """Ask the API server what exists and what this identity may do."""

    def may(self, verb: str, kind: Kind, namespace: str, subresource: str = "") -> bool:
        """The answer of a SelfSubjectAccessReview."""

    def serves(self, kind: Kind) -> bool:
        """Whether the API server knows this kind (a CRD may be missing)."""


@dataclass(frozen=True)
class HubFile:
    """One file of a commit. Exactly one digest is set: ``sha256`` for large files, ``git_sha1`` for small ones."""

    path: str
    size_bytes: int
    sha256: str | None
    git_sha1: str | None


@dataclass(frozen=True)
class HubCommit:
    """A revision resolved once: the 40-hex commit and its files."""

    commit: str
    files: tuple[HubFile, ...]


class Hub(Protocol):
    """Metadata of a model repository."""

    def resolve(self, repo: str, revision: str, endpoint: str) -> HubCommit:
        """The commit behind a branch, tag or commit. Unknown or gated is ``Permanent``."""


@dataclass(frozen=True)
class Endpoint:
    """Where a model server is reached through the API server: a pod or a Service of a namespace."""

    namespace: str
    resource: str
    """``pods`` or ``services``."""
    name: str
    port: int


@dataclass(frozen=True)
class Reply:
    """One HTTP reply of a model server. ``body`` is parsed JSON when it was JSON, else text."""

    status: int
    body: Any


class ModelServer(Protocol):
    """Talk to an OpenAI-compatible server inside the cluster through the API server's proxy."""

    def get(self, endpoint: Endpoint, path: str) -> Reply:
        """GET a path such as ``/v1/models`` or ``/metrics``."""

    def post(self, endpoint: Endpoint, path: str, body: Mapping[str, Any]) -> Reply:
        """POST JSON."""

    def stream(self, endpoint: Endpoint, path: str, body: Mapping[str, Any]) -> Iterator[str]:
        """POST JSON and yield the ``data:`` payloads of the event stream, ``[DONE]`` included."""


class Evidence(Protocol):
    """Keep bulky evidence (logs, events, matrices) outside the record."""

    def put(self, path: str, text: str) -> str:
        """Store ``text`` under a relative path and return an address that a person can open."""


@dataclass(frozen=True)
class Ports:
    """Everything a step may touch."""

    cluster: Cluster
    logs: PodLogs
    access: Access
    hub: Hub
    server: ModelServer
    evidence: Evidence
