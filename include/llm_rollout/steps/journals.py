"""ConfigMaps beside the record in which steps keep what no cluster remembers for them.

Whoever looks next is another process and maybe another machine. A journal that cannot be read counts for nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from llm_rollout import kinds, names
from llm_rollout.ports import Cluster, Manifest

_T = TypeVar("_T")


@dataclass(frozen=True)
class Place:
    """Where one journal of a model stands."""

    namespace: str
    model: str
    what: str
    """What it is about: ``starts``, ``live`` and so on."""

    @property
    def name(self) -> str:
        """The ConfigMap's. No model's name has a dot, so it is no record's."""
        return f"{names.record_name(self.model)}.{self.what}"

    @property
    def key(self) -> str:
        """Under which the text stands."""
        return f"{self.what}.json"


def read(cluster: Cluster, place: Place) -> Manifest | None:
    """The ConfigMap, for ``parsed`` and ``write``."""
    return cluster.get(kinds.CONFIG_MAP, place.namespace, place.name)


def parsed(found: Manifest | None, place: Place, shape: TypeAdapter[_T]) -> _T | None:
    """What it holds; None where that is nothing, or nothing of this shape."""
    try:
        return shape.validate_json((found or {}).get("data", {}).get(place.key, ""))
    except ValidationError:
        return None


def write(cluster: Cluster, place: Place, found: Manifest | None, text: bytes) -> None:
    """Put ``text`` in the place of what was found.

    Raises:
        Conflict: Somebody wrote since it was seen.
    """
    data = {place.key: text.decode()}
    if found is not None:
        cluster.replace({**found, "data": data})
        return
    metadata = {"name": place.name, "namespace": place.namespace, "labels": {names.MODEL_LABEL: place.model}}
    kind = kinds.CONFIG_MAP
    cluster.create({"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, "data": data})
