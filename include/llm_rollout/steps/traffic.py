"""Where a model's Service sends clients, and how that is changed and proved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from llm_rollout import clock, kinds, names
from llm_rollout.errors import Transient
from llm_rollout.manifests.service import NO_REVISION, service
from llm_rollout.ports import Endpoint, Manifest, Ports
from llm_rollout.spec import RolloutSpec
from llm_rollout.steps import pod_state

_SLICE_LABEL = "kubernetes.io/service-name"


@dataclass(frozen=True)
class Traffic:
    """A Service as seen once, with the pods behind it."""

    service: Manifest | None
    endpoints: tuple[str, ...] = ()
    """Names of the pods that its EndpointSlices list as ready, in order."""

    @property
    def selected(self) -> str | None:
        """The revision_id that it selects; None when it selects none."""
        selector = (self.service or {}).get("spec", {}).get("selector") or {}
        chosen = selector.get(names.REVISION_LABEL)
        return None if chosen == NO_REVISION else chosen

    @property
    def switched_at(self) -> float:
        """Seconds since the epoch of the last switch, 0.0 before the first."""
        annotations = (self.service or {"metadata": {}})["metadata"].get("annotations", {})
        return clock.seconds(annotations.get(names.SWITCHED_ANNOTATION)) or 0.0


@dataclass(frozen=True)
class Switch:
    """Point the Service at a revision (None: at nobody), if nobody changed it since it was seen."""

    spec: RolloutSpec
    seen: Manifest | None
    revision_id: str | None
    token: int
    now: float


def observe(spec: RolloutSpec, ports: Ports) -> Traffic:
    """Read the Service and its EndpointSlices."""
    return behind(spec.service.name, spec, ports)


def behind(service: str, spec: RolloutSpec, ports: Ports) -> Traffic:
    """As ``observe``, of another Service of the model."""
    found = ports.cluster.get(kinds.SERVICE, spec.namespace, service)
    if found is None:
        return Traffic(None)
    slices = ports.cluster.list(kinds.ENDPOINT_SLICE, spec.namespace, {_SLICE_LABEL: service})
    endpoints = [endpoint for one in slices for endpoint in one.get("endpoints") or []]
    ready = {_pod(endpoint) for endpoint in endpoints if endpoint.get("conditions", {}).get("ready") is not False}
    return Traffic(found, tuple(sorted(ready)))


def is_ours(manifest: Manifest, spec: RolloutSpec) -> bool:
    """Whether an object belongs to this model."""
    return bool(manifest["metadata"].get("labels", {}).get(names.MODEL_LABEL) == spec.name)


def switch(plan: Switch, ports: Ports) -> None:
    """Write the selector; a Service that is missing is created.

    Raises:
        Conflict: Somebody changed the Service since it was seen.
    """
    wanted = service(plan.spec, plan.revision_id)
    stamps = {
        **wanted["metadata"]["annotations"],
        names.FENCE_ANNOTATION: str(plan.token),
        names.SWITCHED_ANNOTATION: clock.rfc3339(plan.now),
    }
    if plan.seen is None:
        ports.cluster.create({**wanted, "metadata": {**wanted["metadata"], "annotations": stamps}})
        return
    annotations = {**plan.seen["metadata"].get("annotations", {}), **stamps}
    metadata = {**plan.seen["metadata"], "annotations": annotations}
    spec = {**plan.seen["spec"], "selector": wanted["spec"]["selector"], "ports": wanted["spec"]["ports"]}
    ports.cluster.replace({**plan.seen, "metadata": metadata, "spec": spec})


def difference(seen: Traffic, pods: Sequence[Manifest]) -> str:
    """How the Service's endpoints differ from the pods that are ready; empty when they are the same."""
    ready = sorted(pod_state.name(pod) for pod in pods if pod_state.is_ready(pod))
    if list(seen.endpoints) == ready:
        return ""
    return f"the Service's endpoints are {', '.join(seen.endpoints) or 'none'}, the ready leaders {', '.join(ready)}"


def unanswered(spec: RolloutSpec, ports: Ports) -> str:
    """Ask for one token through the Service; empty when the model answered under its name, else what came instead."""
    endpoint = Endpoint(spec.namespace, "services", spec.service.name, spec.service.port)
    question: dict[str, Any] = {"model": spec.served_name, "prompt": "1+1=", "max_tokens": 1, "temperature": 0}
    try:
        reply = ports.server.post(endpoint, "/v1/completions", question)
    except Transient as error:
        return f"no answer through Service {spec.service.name}: {error}"
    model = reply.body.get("model") if isinstance(reply.body, dict) else None
    if reply.status == 200 and model == spec.served_name:  # noqa: PLR2004 (HTTP's own number)
        return ""
    return f"Service {spec.service.name} answered {reply.status} for model {model}: {str(reply.body)[:200]}"


def _pod(endpoint: Manifest) -> str:
    return str(endpoint.get("targetRef", {}).get("name") or ",".join(endpoint.get("addresses", [])))
