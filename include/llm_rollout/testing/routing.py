"""Where requests would go: EndpointSlices of Services, and a gateway that takes every HTTPRoute as it is."""

from __future__ import annotations

from llm_rollout import kinds
from llm_rollout.ports import Manifest
from llm_rollout.testing.cluster import FakeCluster


def endpoints(cluster: FakeCluster, service: Manifest) -> None:
    """What the endpoint controller makes of a Service with a selector."""
    selector, namespace = service["spec"].get("selector"), service["metadata"]["namespace"]
    if not selector or service["spec"].get("clusterIP") == "None":
        return
    pods = [pod for pod in cluster.list(kinds.POD, namespace, selector) if is_ready(pod)]
    name = service["metadata"]["name"]
    cluster.show({
        "apiVersion": kinds.ENDPOINT_SLICE.api_version,
        "kind": kinds.ENDPOINT_SLICE.kind,
        "metadata": {"name": name, "namespace": namespace, "labels": {"kubernetes.io/service-name": name}},
        "endpoints": [{"conditions": {"ready": True}, "targetRef": {"name": pod["metadata"]["name"]}} for pod in pods],
    })  # fmt: skip


def accept(cluster: FakeCluster, route: Manifest) -> None:
    """What a gateway's controller says of a route that it has taken."""
    generation, namespace = route["metadata"]["generation"], route["metadata"]["namespace"]
    references = [ref["name"] for rule in route["spec"]["rules"] for ref in rule["backendRefs"]]
    missing = [name for name in references if cluster.get(kinds.SERVICE, namespace, name) is None]
    resolved = {"status": "False", "message": f"no {missing[0]}"} if missing else {"status": "True", "message": ""}
    told = {"Accepted": {"status": "True", "message": ""}, "ResolvedRefs": resolved}
    seen = {"observedGeneration": generation, "reason": "Simulated"}
    conditions = [{"type": type_, **seen, **one} for type_, one in told.items()]
    parents = [{"parentRef": one, "conditions": conditions} for one in route["spec"]["parentRefs"]]
    if route.get("status", {}).get("parents") != parents:
        cluster.show({**route, "status": {"parents": parents}})


def is_ready(pod: Manifest) -> bool:
    """Whether a Service would send requests there."""
    conditions = pod.get("status", {}).get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
