"""The cluster, pod logs and access reviews over the official Kubernetes client.

One generic path serves every kind, so that a new kind needs no new code.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from llm_rollout.errors import Conflict, Permanent, Transient
from llm_rollout.names import FIELD_MANAGER
from llm_rollout.ports import Kind, Manifest

TIMEOUT_SECONDS = 30
_APPLY = "application/apply-patch+yaml"
_BAD_REQUEST, _UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND, _CONFLICT, _TOO_MANY = 400, 401, 403, 404, 409, 429
_SERVER_ERRORS = 500


class _Api:
    """One request to the API server, with its failures sorted into transient and permanent."""

    def __init__(self, api_client: Any) -> None:
        self._client = api_client

    def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
    ) -> str:
        """The reply's text.

        Raises:
            Transient: No answer, too many requests, or a server error.
            Conflict: 409.
            Permanent: Any other refusal; ``NotFound`` for 404, ``BadRequest`` for 400.
        """
        from kubernetes.client.exceptions import ApiException  # noqa: PLC0415 - see adapters.connect
        from urllib3.exceptions import HTTPError  # noqa: PLC0415

        header = {"Accept": "application/json", "Content-Type": content_type}
        try:
            reply = self._client.call_api(
                path, method, {}, list((query or {}).items()), header,
                body=body,
                auth_settings=["BearerToken"],
                _preload_content=False,
                _return_http_data_only=True,
                _request_timeout=TIMEOUT_SECONDS,
            )  # fmt: skip
            return str(reply.data.decode("utf-8", errors="replace"))
        except ApiException as error:
            raise _sorted(error, f"{method} {path}") from None
        except UnicodeDecodeError:
            # The client decodes refusals strictly, and only the API server's own are sure to be UTF-8.
            raise Transient(f"something between here and the API server refused {method} {path}") from None
        except (HTTPError, OSError) as error:
            raise Transient(f"the API server did not answer {method} {path}: {type(error).__name__}") from error


class NotFound(Permanent):
    """The object, or its kind, does not exist."""


class BadRequest(Permanent):
    """The request does not fit the object as it stands."""


class ForeignField(Conflict):
    """A field of an apply belongs to another field manager."""


def _sorted(error: Any, what: str) -> Exception:
    message = _message(error)
    if error.status in (_NOT_FOUND, _BAD_REQUEST):
        return (NotFound if error.status == _NOT_FOUND else BadRequest)(f"{what}: {message}")
    if error.status == _CONFLICT:
        foreign = "FieldManagerConflict" in (error.body or "")
        return (ForeignField if foreign else Conflict)(f"{what}: {message}")
    if error.status == _TOO_MANY or error.status >= _SERVER_ERRORS or not error.status:
        return Transient(f"{what}: the API server answered {error.status}: {message}")
    if error.status == _UNAUTHORIZED:
        return Permanent(f"{what}: the API server does not know this identity: check the Kubernetes connection")
    if error.status == _FORBIDDEN:
        return Permanent(f"{what}: {message}: grant it in deploy/rbac.yaml and apply that")
    return Permanent(f"{what}: the API server refused with {error.status}: {message}")


def _message(error: Any) -> str:
    try:
        return str(json.loads(error.body)["message"])
    except (TypeError, ValueError, KeyError):
        return str(error.reason)


def _path(kind: Kind, namespace: str, name: str = "", subresource: str = "") -> str:
    root = f"/apis/{kind.api_version}" if "/" in kind.api_version else f"/api/{kind.api_version}"
    scope = f"/namespaces/{namespace}" if kind.namespaced and namespace else ""
    return root + scope + "".join(f"/{part}" for part in (kind.plural, name, subresource) if part)


class KubeCluster:
    """``ports.Cluster`` on a real API server."""

    def __init__(self, api_client: Any) -> None:
        """Use ``api_client`` (``kubernetes.client.ApiClient``) for every call."""
        self._api = _Api(api_client)

    def get(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        """See ``ports.Cluster``."""
        try:
            return _object(self._api.call("GET", _path(kind, namespace, name)))
        except NotFound:
            return None

    def list(self, kind: Kind, namespace: str, labels: Mapping[str, str] | None = None) -> Sequence[Manifest]:
        """See ``ports.Cluster``. Items carry apiVersion and kind, which the API leaves out of lists."""
        query = {"labelSelector": ",".join(f"{k}={v}" for k, v in labels.items())} if labels else {}
        try:
            items = _object(self._api.call("GET", _path(kind, namespace), query=query)).get("items") or []
        except NotFound:
            return []
        return [{"apiVersion": kind.api_version, "kind": kind.kind, **item} for item in items]

    def apply(self, manifest: Manifest) -> Manifest:
        """See ``ports.Cluster``."""
        kind, namespace, name = _identity(manifest)
        try:
            text = self._api.call(
                "PATCH",
                _path(kind, namespace, name),
                query={"fieldManager": FIELD_MANAGER},
                body=manifest,
                content_type=_APPLY,
            )
        except ForeignField as error:
            raise Permanent(f"somebody else owns a field of {kind.kind} {namespace}/{name}: {error}") from error
        return _object(text)

    def create(self, manifest: Manifest) -> Manifest:
        """See ``ports.Cluster``."""
        kind, namespace, _ = _identity(manifest)
        query = {"fieldManager": FIELD_MANAGER}
        return _object(self._api.call("POST", _path(kind, namespace), query=query, body=manifest))

    def replace(self, manifest: Manifest) -> Manifest:
        """See ``ports.Cluster``."""
        kind, namespace, name = _identity(manifest)
        query = {"fieldManager": FIELD_MANAGER}
        return _object(self._api.call("PUT", _path(kind, namespace, name), query=query, body=manifest))

    def delete(self, kind: Kind, namespace: str, name: str, uid: str) -> None:
        """See ``ports.Cluster``. An object of that name with another UID is somebody's newer one: it stays."""
        body = {"propagationPolicy": "Foreground", "preconditions": {"uid": uid}}
        try:
            self._api.call("DELETE", _path(kind, namespace, name), body=body)
        except (NotFound, Conflict):
            return


class KubePodLogs:
    """``ports.PodLogs`` through the API server."""

    def __init__(self, api_client: Any) -> None:
        """Use ``api_client`` for every call."""
        self._api = _Api(api_client)

    def tail(self, namespace: str, pod: str, container: str, lines: int, *, previous: bool = False) -> str:
        """See ``ports.PodLogs``."""
        return self._read(namespace, pod, {"container": container, "tailLines": lines, "previous": previous})

    def stamped(self, namespace: str, pod: str, container: str, lines: int, *, previous: bool = False) -> str:
        """See ``ports.PodLogs``."""
        query = {"container": container, "tailLines": lines, "previous": previous, "timestamps": True}
        return self._read(namespace, pod, query)

    def _read(self, namespace: str, pod: str, asked: Mapping[str, object]) -> str:
        query = {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in asked.items()}
        try:
            return self._api.call("GET", f"/api/v1/namespaces/{namespace}/pods/{pod}/log", query=query)
        except (NotFound, BadRequest):
            # 400 is the answer for a container that has not started or has no previous run.
            return ""


class KubeAccess:
    """``ports.Access`` through SelfSubjectAccessReviews and discovery."""

    def __init__(self, api_client: Any) -> None:
        """Use ``api_client`` for every call."""
        self._api = _Api(api_client)

    def may(self, verb: str, kind: Kind, namespace: str, subresource: str = "") -> bool:
        """See ``ports.Access``."""
        attributes = {
            "verb": verb,
            "group": kind.group,
            "resource": kind.plural,
            "subresource": subresource,
            "namespace": namespace if kind.namespaced else "",
        }
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        text = self._api.call("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", body=body)
        return bool(_object(text)["status"].get("allowed"))

    def serves(self, kind: Kind) -> bool:
        """See ``ports.Access``."""
        root = f"/apis/{kind.api_version}" if "/" in kind.api_version else f"/api/{kind.api_version}"
        try:
            resources = _object(self._api.call("GET", root)).get("resources", [])
        except NotFound:
            return False
        return any(resource["name"] == kind.plural for resource in resources)


def _object(text: str) -> Manifest:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise Transient("the answer is no JSON object: something between here and the API server gave it")
    return value


def _identity(manifest: Manifest) -> tuple[Kind, str, str]:
    """Where an object lives. Plurals come from the kinds this project writes."""
    from llm_rollout import kinds  # noqa: PLC0415 - the module's own names are what is searched

    metadata = manifest["metadata"]
    for kind in vars(kinds).values():
        if isinstance(kind, Kind) and (kind.api_version, kind.kind) == (manifest["apiVersion"], manifest["kind"]):
            return kind, metadata.get("namespace", ""), metadata["name"]
    raise Permanent(f"{manifest['apiVersion']} {manifest['kind']} is not among the kinds in llm_rollout.kinds")
