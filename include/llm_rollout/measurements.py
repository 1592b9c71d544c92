"""What was measured of the fabric between a model's nodes: a ConfigMap with the last measurements of whoever made them.

It outlives Jobs and their logs, and the nightly measurement, which holds no lease, may write it: every entry is one
report about named nodes in a named state, so nobody's entry makes another one wrong. It is a cache: what cannot be
read counts for nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from llm_rollout import kinds, names
from llm_rollout.errors import Conflict, Transient
from llm_rollout.ports import Cluster

KEY = "measurements.json"
"""The ConfigMap's key."""
KEPT = 20
_TRIES = 8
_HOUR_SECONDS = 3600


class Measurement(BaseModel):
    """One report. Only a PASS is ever used again; everything else makes earlier ones void."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    at: float
    """When its Job ended, in seconds since the epoch."""
    attempt: str
    """``<run id>/<try>`` of who started it."""
    job: str
    """The Job's UID."""
    nodes: dict[str, str]
    """Each node with the boot id that it had when the Job started: NICs are exchanged with the machine off."""
    settings: str
    """Digest of everything else that a measurement depends on."""
    verdict: Literal["PASS", "DEGRADED", "FAIL", "INCONCLUSIVE"]
    transport: str
    sentence: str
    bad: tuple[dict[str, Any], ...] = ()
    """The parts that the report blames, as it names them."""


_MEASUREMENTS = TypeAdapter(tuple[Measurement, ...])


def load(cluster: Cluster, namespace: str, model: str) -> tuple[Measurement, ...]:
    """The measurements of a model, oldest first."""
    found = cluster.get(kinds.CONFIG_MAP, namespace, names.measurements_name(model))
    return _parsed(found.get("data", {}).get(KEY, "")) if found else ()


def note(cluster: Cluster, namespace: str, model: str, one: Measurement) -> None:
    """Add a measurement unless its Job's is there already; the oldest go.

    Raises:
        Transient: Others wrote at the same time, every time.
    """
    for _ in range(_TRIES):
        found = cluster.get(kinds.CONFIG_MAP, namespace, names.measurements_name(model))
        known = _parsed(found.get("data", {}).get(KEY, "")) if found else ()
        if any(entry.job == one.job for entry in known):
            return
        kept = sorted((*known[-KEPT + 1 :], one), key=lambda entry: entry.at)
        data = {KEY: _MEASUREMENTS.dump_json(tuple(kept)).decode()}
        try:
            if found is not None:
                cluster.replace({**found, "data": data})
            else:
                cluster.create(_config_map(namespace, model, data))
        except Conflict:
            continue
        return
    raise Transient(f"ConfigMap {namespace}/{names.measurements_name(model)}: {_TRIES} conflicting writes in a row")


def valid_pass(
    known: Sequence[Measurement], nodes: Mapping[str, str], settings: str, hours: int, now: float
) -> Measurement | None:
    """The newest measurement that says something about these nodes, if it is a PASS of them all as they are now.

    A PASS of more nodes holds for fewer, since every pair was measured. One that is not a PASS, is of another state of
    a node or is too old is never looked past: what it says is newer than any PASS before it.

    Args:
        known: Measurements, oldest first.
        nodes: The nodes with their boot ids.
        settings: Digest of the settings that would be measured now.
        hours: How long a PASS counts.
        now: Seconds since the epoch.
    """
    for one in reversed(known):
        shared = one.nodes.keys() & nodes.keys()
        if not shared or one.settings != settings:
            continue
        if one.verdict != "PASS" or any(not nodes[node] or one.nodes[node] != nodes[node] for node in shared):
            return None
        if shared == nodes.keys():
            return one if 0 <= now - one.at <= hours * _HOUR_SECONDS else None
    return None


def _parsed(text: str) -> tuple[Measurement, ...]:
    try:
        return _MEASUREMENTS.validate_json(text)
    except ValidationError:
        return ()


def _config_map(namespace: str, model: str, data: dict[str, str]) -> dict[str, object]:
    metadata = {"name": names.measurements_name(model), "namespace": namespace, "labels": {names.MODEL_LABEL: model}}
    return {
        "apiVersion": kinds.CONFIG_MAP.api_version, "kind": kinds.CONFIG_MAP.kind, "metadata": metadata, "data": data,
    }  # fmt: skip
