"""The API server in memory: preconditions, versions and foreground deletion as the real one has them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from llm_rollout import clock, kinds
from llm_rollout.errors import Conflict, Permanent
from llm_rollout.ports import Kind, Manifest
from llm_rollout.testing.impossible import refuse_impossible

Key = tuple[str, str, str, str]

_WITH_DEPENDENTS = (kinds.LEADER_WORKER_SET.kind, kinds.JOB.kind)
"""Deleted in the foreground, these stay until what they own is gone."""
_WITHOUT_GENERATION = (kinds.CONFIG_MAP.kind, kinds.LEASE.kind, kinds.SERVICE.kind, kinds.POD.kind, kinds.EVENT.kind)


class FakeCluster:
    """``ports.Cluster`` over a dictionary. ``writes`` lists every write that changed something, in order."""

    def __init__(self, now: Callable[[], float]) -> None:
        """``now`` stamps creation and deletion, in seconds since the epoch."""
        self._now = now
        self._objects: dict[Key, Manifest] = {}
        self._applied: dict[Key, Manifest] = {}
        self._version = 0
        self.writes: list[str] = []
        self.before_write: Callable[[str], None] = lambda _what: None
        """Called with ``verb Kind name`` before a write: may raise what a write can meet."""

    def get(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        """See ``ports.Cluster``."""
        found = self._objects.get(_key(kind, namespace, name))
        return _copy(found) if found else None

    def list(self, kind: Kind, namespace: str, labels: Mapping[str, str] | None = None) -> list[Manifest]:
        """See ``ports.Cluster``."""
        return [
            _copy(one)
            for key, one in sorted(self._objects.items())
            if key[:2] == (kind.api_version, kind.kind)
            and namespace in ("", key[2])
            and (labels or {}).items() <= one["metadata"].get("labels", {}).items()
        ]

    def apply(self, manifest: Manifest) -> Manifest:
        """See ``ports.Cluster``: what was applied before and is no longer there is taken away."""
        key = _key_of(manifest)
        live = self._objects.get(key)
        manifest = self._at_its_version(manifest, live)
        if live is None:
            created = self._insert("apply", manifest)
        else:
            merged = _merged(_pruned(live, self._applied.get(key, {}), manifest), manifest)
            self._refuse_immutable(live, merged)
            created = self._store("apply", key, live, merged)
        self._applied[key] = _copy(manifest)
        return created

    def create(self, manifest: Manifest) -> Manifest:
        """See ``ports.Cluster``."""
        if _key_of(manifest) in self._objects:
            raise Conflict(f"{_named(manifest)} already exists")
        return self._insert("create", manifest)

    def replace(self, manifest: Manifest) -> Manifest:
        """See ``ports.Cluster``."""
        key = _key_of(manifest)
        live = self._objects.get(key)
        if live is None:
            raise Permanent(f"{_named(manifest)} not found")
        if manifest["metadata"].get("resourceVersion") != live["metadata"]["resourceVersion"]:
            raise Conflict(f"{_named(manifest)}: the object has been modified")
        if manifest["metadata"].get("uid") != live["metadata"]["uid"]:
            raise Conflict(f"{_named(manifest)}: the UID in the precondition differs")
        self._refuse_immutable(live, manifest)
        wanted = _copy(manifest)
        if "status" in live:
            wanted["status"] = live["status"]
        return self._store("replace", key, live, wanted)

    def delete(self, kind: Kind, namespace: str, name: str, uid: str) -> None:
        """See ``ports.Cluster``."""
        key = _key(kind, namespace, name)
        live = self._objects.get(key)
        if live is None or "deletionTimestamp" in live["metadata"]:
            return
        if live["metadata"]["uid"] != uid:
            raise Conflict(f"{_named(live)}: the UID in the precondition differs")
        self._write(f"delete {live['kind']} {name}")
        if live["kind"] not in _WITH_DEPENDENTS:
            del self._objects[key]
            return
        stamp = {"deletionTimestamp": clock.rfc3339(self._now()), "finalizers": ["foregroundDeletion"]}
        self._put(key, {**live, "metadata": {**live["metadata"], **stamp}})

    def show(self, manifest: Manifest) -> Manifest:
        """Put an object with its status as a controller or a person left it; not counted among ``writes``.

        Raises:
            AssertionError: No real cluster could show this state.
        """
        key = _key_of(manifest)
        live = self._objects.get(key)
        base = live["metadata"] if live else self._born(manifest)
        generation = base.get("generation")
        if live and generation and live.get("spec") != manifest.get("spec"):
            base = {**base, "generation": generation + 1}
        shown = {**_copy(manifest), "metadata": {**base, **_copy(manifest)["metadata"]}}
        return _copy(live) if live == shown else self._put(key, shown)

    def forget(self, manifest: Manifest) -> None:
        """Take an object away, as the garbage collector or a person does."""
        self._objects.pop(_key_of(manifest), None)

    def _insert(self, verb: str, manifest: Manifest) -> Manifest:
        self._write(f"{verb} {_named(manifest)}")
        body = {key: value for key, value in _copy(manifest).items() if key != "status"}
        return self._put(_key_of(manifest), {**body, "metadata": {**body["metadata"], **self._born(manifest)}})

    def _born(self, manifest: Manifest) -> Manifest:
        metadata: Manifest = {"uid": f"uid-{self._version + 1}", "creationTimestamp": clock.rfc3339(self._now())}
        return metadata if manifest["kind"] in _WITHOUT_GENERATION else {**metadata, "generation": 1}

    def _store(self, verb: str, key: Key, live: Manifest, wanted: Manifest) -> Manifest:
        if wanted == live:
            return _copy(live)
        self._write(f"{verb} {_named(wanted)}")
        if wanted.get("spec") != live.get("spec") and "generation" in live["metadata"]:
            wanted = {**wanted, "metadata": {**wanted["metadata"], "generation": live["metadata"]["generation"] + 1}}
        return self._put(key, wanted)

    def _write(self, what: str) -> None:
        self.before_write(what)
        self.writes.append(what)

    def _put(self, key: Key, manifest: Manifest) -> Manifest:
        refuse_impossible(manifest)
        self._version += 1
        stored = {**manifest, "metadata": {**manifest["metadata"], "resourceVersion": str(self._version)}}
        self._objects[key] = _copy(stored)
        return _copy(stored)

    @staticmethod
    def _at_its_version(manifest: Manifest, live: Manifest | None) -> Manifest:
        """An apply that names a version is for exactly that one, and the version is no field that it owns."""
        metadata = dict(manifest["metadata"])
        wanted = metadata.pop("resourceVersion", None)
        if wanted is not None and (live is None or wanted != live["metadata"]["resourceVersion"]):
            raise Conflict(f"{_named(manifest)}: the object has been modified")
        return {**manifest, "metadata": metadata}

    @staticmethod
    def _refuse_immutable(live: Manifest, wanted: Manifest) -> None:
        if live["kind"] == kinds.JOB.kind and live["spec"].get("template") != wanted["spec"].get("template"):
            raise Permanent(f"{_named(live)}: spec.template: field is immutable")


def _key(kind: Kind, namespace: str, name: str) -> Key:
    return kind.api_version, kind.kind, namespace if kind.namespaced else "", name


def _key_of(manifest: Manifest) -> Key:
    metadata = manifest["metadata"]
    return manifest["apiVersion"], manifest["kind"], metadata.get("namespace", ""), metadata["name"]


def _named(manifest: Manifest) -> str:
    return f"{manifest['kind']} {manifest['metadata']['name']}"


def _copy(manifest: Manifest) -> Manifest:
    copy: Manifest = json.loads(json.dumps(manifest))
    return copy


def _merged(live: Any, wanted: Any) -> Any:
    if not isinstance(live, dict) or not isinstance(wanted, dict):
        return wanted
    return {**live, **{key: _merged(live.get(key), value) for key, value in wanted.items()}}


def _pruned(live: Any, before: Any, wanted: Any) -> Any:
    """``live`` without what was applied before and is not wanted any more."""
    if not (isinstance(live, dict) and isinstance(before, dict) and isinstance(wanted, dict)):
        return live
    kept = {key: value for key, value in live.items() if key in wanted or key not in before}
    return {key: _pruned(value, before.get(key), wanted.get(key)) for key, value in kept.items()}
