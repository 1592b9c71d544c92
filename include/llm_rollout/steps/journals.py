"""ConfigMaps beside the record in which steps keep what no cluster remembers for them.

Whoever looks next is another process and maybe another machine. A journal that cannot be read counts for nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter, ValidationError

from llm_rollout import kinds, names
from llm_rollout.ports import Cluster, Manifest

_T = TypeVar("_T")


@dataclass(frozen=True)
class Journal(Generic[_T]):
    """A ConfigMap as seen once, and what it holds."""

    found: Manifest | None = None
    entry: _T | None = None

    def where(self, ours: Callable[[_T], bool]) -> Journal[_T]:
        """Without its entry, if that speaks of something else."""
        return self if self.entry is not None and ours(self.entry) else replace(self, entry=None)


@dataclass(frozen=True)
class Kind(Generic[_T]):
    """One kind of journal: each model has one."""

    what: str
    """What it is about: ``starts``, ``live`` and so on."""
    shape: TypeAdapter[_T]

    @property
    def key(self) -> str:
        """Under which the text stands."""
        return f"{self.what}.json"

    def name(self, model: str) -> str:
        """The ConfigMap's. No model's name has a dot, so it is no record's."""
        return f"{names.record_name(model)}.{self.what}"

    def read(self, cluster: Cluster, namespace: str, model: str) -> Journal[_T]:
        """What is noted of a model."""
        found = cluster.get(kinds.CONFIG_MAP, namespace, self.name(model))
        try:
            return Journal(found, self.shape.validate_json((found or {}).get("data", {}).get(self.key, "")))
        except ValidationError:
            return Journal(found)

    def write(self, cluster: Cluster, namespace: str, model: str, seen: Journal[_T], entry: _T) -> None:
        """Note ``entry`` in the place of what was seen.

        Raises:
            Conflict: Somebody wrote since.
        """
        data = {self.key: self.shape.dump_json(entry, exclude_defaults=True).decode()}
        if seen.found is not None:
            cluster.replace({**seen.found, "data": data})
            return
        metadata: dict[str, Any] = {"name": self.name(model), "namespace": namespace}
        metadata["labels"] = {names.MODEL_LABEL: model}
        kind = kinds.CONFIG_MAP
        cluster.create({"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, "data": data})
