"""The fault ``unschedulable``: pods that the real scheduler finds no node for.

A taint or a cordon would refuse every pod. So a webhook gives the pods that the fault names a node selector that no
node satisfies, and when the fault is cleared the nodes get the label that those pods wait for.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import httpx
from aiohttp import web

from devcluster.api import Api, ApiError
from devcluster.layout import KUBELET_PORT, Layout, node_address
from devcluster.node.faults import Faults

Object = Mapping[str, Any]

LABEL = "fault.devcluster/"
"""Followed by a fault's id."""
LIFT_SECONDS = 0.5
PATH = "/unschedulable"
_CONFIGURATIONS = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"
_LIFTED = "lifted"
_RANDOM_SUFFIX = "xxxxx"
"""Stands for what the API server appends to generateName after the webhooks."""


class Refusal:
    """The webhook, and the clearing of what it did."""

    def __init__(self, api: Api, layout: Layout, nodes: Sequence[str], faults: Faults) -> None:
        self._api = api
        self._layout = layout
        self._nodes = nodes
        self._faults = faults
        self._lifted: set[str] = set()

    @property
    def route(self) -> web.RouteDef:
        """What the webhook's URL leads to."""
        return web.post(PATH, self._review)

    async def install_and_lift(self, pods: Callable[[], Iterable[Object]]) -> None:
        """Install the webhook, then label the nodes for each fault that was cleared while pods wait, for ever."""
        installed = False
        while True:
            try:
                installed = installed or await self._install()
                await self._lift(waited_for(pods()) - self._faults.ids() - self._lifted)
            except (ApiError, httpx.HTTPError) as error:
                print(f"unschedulable: {type(error).__name__}: {error}", flush=True)
            await asyncio.sleep(LIFT_SECONDS)

    async def _install(self) -> bool:
        authority = base64.b64encode(self._layout.certificate("ca").read_bytes()).decode()
        url = f"https://{node_address(self._nodes[0])}:{KUBELET_PORT}{PATH}"
        await self._api.create(_CONFIGURATIONS, _configuration(url, authority))
        return True

    async def _lift(self, ids: set[str]) -> None:
        for identifier in ids:
            body = {"metadata": {"labels": {LABEL + identifier: _LIFTED}}}
            await asyncio.gather(*(self._api.patch(f"/api/v1/nodes/{node}", body) for node in self._nodes))
            self._lifted.add(identifier)

    async def _review(self, request: web.Request) -> web.Response:
        review = (await request.json())["request"]
        response = {"uid": review["uid"], "allowed": True}
        pod = review["object"]
        if not review.get("dryRun") and (identifier := self._struck(pod)):
            response |= {"patchType": "JSONPatch", "patch": _encoded(patch(pod, identifier))}
        return web.json_response({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response})

    def _struck(self, pod: Object) -> str | None:
        for container in pod["spec"]["containers"]:
            if fault := self._faults.strike(name_of(pod), container["name"], ("unschedulable",)):
                return str(fault["id"])
        return None


def name_of(pod: Object) -> str:
    """The pod's name, or one like that which it will get."""
    metadata = pod["metadata"]
    return str(metadata.get("name") or f"{metadata.get('generateName', '')}{_RANDOM_SUFFIX}")


def patch(pod: Object, identifier: str) -> list[dict[str, Any]]:
    """The JSON patch that binds a pod to nodes on which the fault was lifted: none, as long as it stands."""
    selector = {**(pod["spec"].get("nodeSelector") or {}), LABEL + identifier: _LIFTED}
    return [{"op": "add", "path": "/spec/nodeSelector", "value": selector}]


def waited_for(pods: Iterable[Object]) -> set[str]:
    """The ids of the faults that keep these pods from a node."""
    selectors = (pod["spec"].get("nodeSelector") or {} for pod in pods if not pod["spec"].get("nodeName"))
    return {key.removeprefix(LABEL) for selector in selectors for key in selector if key.startswith(LABEL)}


def _encoded(operations: list[dict[str, Any]]) -> str:
    return base64.b64encode(json.dumps(operations).encode()).decode()


def _configuration(url: str, authority: str) -> dict[str, Any]:
    webhook = {
        "name": "unschedulable.fault.devcluster",
        "clientConfig": {"url": url, "caBundle": authority},
        "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}],
        "admissionReviewVersions": ["v1"],
        "sideEffects": "NoneOnDryRun",
        # An agent that is away must not keep pods from being created.
        "failurePolicy": "Ignore",
        "timeoutSeconds": 5,
    }
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": "devcluster-faults"},
        "webhooks": [webhook],
    }
