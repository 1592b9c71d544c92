"""Lists with their version, and what has changed since, from a real API server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from llm_rollout import kinds, names
from llm_rollout.adapters.kube import _Api, _object, _path, _sorted
from llm_rollout.errors import Transient
from llm_rollout.ports import Kind, Manifest

WATCH_SECONDS = 10
"""The server ends a watch after so long, having sent a bookmark two seconds before, so silence has an upper end."""
SILENCE_SECONDS = WATCH_SECONDS + 3.0
CONNECT_SECONDS = 5.0
_BOOKMARK, _ERROR, _DELETED = "BOOKMARK", "ERROR", "DELETED"
_GONE = 410
_OURS = {kinds.CONFIG_MAP: names.MODEL_LABEL}
"""Of kinds that others use for much that is large, only what carries this label is kept."""


class Gone(Transient):
    """The version is too old to go on from: a new list is needed."""


@dataclass(frozen=True)
class Snapshot:
    """All objects at one version."""

    objects: tuple[Manifest, ...]
    version: str


@dataclass(frozen=True)
class Change:
    """One object as it is since ``version``; ``manifest`` is None where only the version has moved on."""

    version: str
    manifest: Manifest | None = None
    is_gone: bool = False


class Source(Protocol):
    """Where objects are listed and watched."""

    def snapshot(self, kind: Kind, namespace: str) -> Snapshot:
        """All objects of a kind. Raises Transient and Permanent."""

    def changes(self, kind: Kind, namespace: str, version: str) -> AbstractContextManager[Iterator[Change]]:
        """What happens after ``version``, until the server ends the watch.

        Raises:
            Gone: The version is too old.
            Transient: The API server did not answer, or the stream broke.
            Permanent: It refuses to be watched.
        """


def is_whole(kind: Kind) -> bool:
    """Whether everything of a kind is listed; else only what this project has labelled."""
    return kind not in _OURS


class KubeSource:
    """``Source`` on a real API server."""

    def __init__(self, api_client: Any) -> None:
        """Use ``api_client`` (``kubernetes.client.ApiClient``) for every call, from several threads."""
        self._client = api_client
        self._api = _Api(api_client)

    def snapshot(self, kind: Kind, namespace: str) -> Snapshot:
        """See ``Source``."""
        found = _object(self._api.call("GET", _path(kind, namespace), query=_selection(kind)))
        try:
            version, items = str(found["metadata"]["resourceVersion"]), found.get("items") or []
        except (KeyError, TypeError):
            raise Transient("the answer is no list: something between here and the API server gave it") from None
        return Snapshot(tuple({"apiVersion": kind.api_version, "kind": kind.kind, **item} for item in items), version)

    @contextmanager
    def changes(self, kind: Kind, namespace: str, version: str) -> Iterator[Iterator[Change]]:
        """See ``Source``."""
        reply = self._open(kind, namespace, version)
        try:
            yield (_change(line) for line in _lines(reply))
        finally:
            reply.close()

    def _open(self, kind: Kind, namespace: str, version: str) -> Any:
        from kubernetes.client.exceptions import ApiException  # noqa: PLC0415 - see adapters.connect
        from urllib3.exceptions import HTTPError  # noqa: PLC0415

        query = {
            "watch": "true",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(WATCH_SECONDS),
            **_selection(kind),
        }
        path = _path(kind, namespace)
        try:
            return self._client.call_api(
                path, "GET", {}, list(query.items()), {"Accept": "application/json"},
                auth_settings=["BearerToken"],
                _preload_content=False,
                _return_http_data_only=True,
                _request_timeout=(CONNECT_SECONDS, SILENCE_SECONDS),
            )  # fmt: skip
        except ApiException as error:
            if error.status == _GONE:
                raise Gone(f"watch {path}: version {version} is too old") from None
            raise _sorted(error, f"watch {path}") from None
        except UnicodeDecodeError:
            raise Transient(f"something between here and the API server refused to watch {path}") from None
        except (HTTPError, OSError) as error:
            raise Transient(f"the API server did not answer watch {path}: {type(error).__name__}") from error


def _selection(kind: Kind) -> dict[str, str]:
    return {"labelSelector": _OURS[kind]} if kind in _OURS else {}


def _lines(reply: Any) -> Iterator[bytes]:
    from urllib3.exceptions import HTTPError  # noqa: PLC0415 - see adapters.connect

    rest = b""
    try:
        for chunk in reply.stream():
            *whole, rest = (rest + chunk).split(b"\n")
            yield from whole
    except (HTTPError, OSError) as error:
        raise Transient(f"the watch broke: {type(error).__name__}") from error
    if rest.strip():
        yield rest


def _change(line: bytes) -> Change:
    try:
        event = json.loads(line)
        what, found = event["type"], event["object"]
        if what == _ERROR:
            raise _told(found)
        version = str(found["metadata"]["resourceVersion"])
    except (ValueError, KeyError, TypeError):
        raise Transient("the watch sent a line that is no event") from None
    return Change(version) if what == _BOOKMARK else Change(version, found, what == _DELETED)


def _told(status: Manifest) -> Transient:
    text = str(status.get("message", status.get("reason", "no reason given")))
    return Gone(f"the watch ended: {text}") if status.get("code") == _GONE else Transient(f"the watch ended: {text}")
