"""What a new cluster contains before anybody uses it: nodes, custom resources, webhooks, a volume."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from devcluster import nodes, volumes
from devcluster.api import Api
from devcluster.layout import ROOT_ADDRESS, WEBHOOK_PORT, Layout
from devcluster.waiting import until

LWS_POD_LABEL = "leaderworkerset.sigs.k8s.io/name"
CUSTOM_RESOURCES = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
WEBHOOKS = "/apis/admissionregistration.k8s.io/v1"
WAIT_SECONDS = 30.0


async def custom_resources(api: Api, manifests: Path) -> None:
    """Install every CRD that rollouts use and wait until discovery names them.

    The garbage collector looks for new resources every 30 s only: those that it does not find at its start have
    no deletion of dependents for so long.
    """
    files = [path.read_bytes() for path in sorted((manifests / "crd").glob("*.yaml"))]
    small = [
        _crd("k8s.cni.cncf.io", "v1", "NetworkAttachmentDefinition", "network-attachment-definitions"),
        _crd("monitoring.coreos.com", "v1", "PodMonitor", "podmonitors"),
    ]
    bodies: list[Mapping[str, Any] | bytes] = [*files, *small]
    await asyncio.gather(*(api.create(CUSTOM_RESOURCES, body) for body in bodies))

    wanted = {crd["metadata"]["name"] for crd in (await api.get(CUSTOM_RESOURCES))["items"]}

    async def served() -> bool:
        return wanted <= await _discovered(api)

    await until(served, WAIT_SECONDS)


async def webhooks(api: Api, manifests: Path, layout: Layout) -> None:
    """Install the LWS webhooks by URL. Only now, when they answer: they fail closed."""
    authority = base64.b64encode(layout.certificate("ca").read_bytes()).decode()
    for document in yaml.safe_load_all((manifests / "webhook.yaml").read_text()):
        for webhook in document["webhooks"]:
            _call_by_url(webhook, authority)
        await api.create(f"{WEBHOOKS}/{document['kind'].lower()}s", document)


async def objects(api: Api, names: Sequence[str], gpus: int) -> None:
    """Create the nodes and the storage class with the claim ``model-store`` in ``default``."""
    await asyncio.gather(nodes.create(api, names, gpus), volumes.create(api))


async def usable(api: Api, count: int) -> None:
    """Wait until pods can be created in ``default`` and scheduled on every node."""
    await until(lambda: _pods_possible(api, count), WAIT_SECONDS)


async def _pods_possible(api: Api, count: int) -> bool:
    accounts = (await api.get("/api/v1/namespaces/default/serviceaccounts"))["items"]
    listed = (await api.get("/api/v1/nodes"))["items"]
    claims = (await api.get("/api/v1/namespaces/default/persistentvolumeclaims"))["items"]
    untainted = [node for node in listed if not node["spec"].get("taints")]
    bound = [claim for claim in claims if claim["status"].get("phase") == "Bound"]
    return bool(accounts and bound and len(untainted) >= count)


def _call_by_url(webhook: dict[str, Any], authority: str) -> None:
    path = webhook["clientConfig"]["service"]["path"]
    webhook["clientConfig"] = {"url": f"https://{ROOT_ADDRESS}:{WEBHOOK_PORT}{path}", "caBundle": authority}
    if any("pods" in rule["resources"] for rule in webhook["rules"]):
        webhook["objectSelector"] = {"matchExpressions": [{"key": LWS_POD_LABEL, "operator": "Exists"}]}


def _crd(group: str, version: str, kind: str, plural: str) -> dict[str, Any]:
    """A definition that stores whatever it is given: enough to apply and read back manifests."""
    anything = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural, "singular": kind.lower(), "listKind": f"{kind}List"},
            "versions": [{"name": version, "served": True, "storage": True, "schema": anything}],
        },
    }


async def _discovered(api: Api) -> set[str]:
    """``<plural>.<group>`` of every resource, from the same aggregated discovery that controllers read."""
    return {
        f"{resource['resource']}.{group['metadata']['name']}"
        for group in (await api.discovery())["items"]
        for version in group["versions"]
        for resource in version.get("resources") or ()
    }
