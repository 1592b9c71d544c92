"""Everything that a cluster holds, with the version of each object."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kubernetes import client, config

MOVING = {"nodes", "events", "componentstatuses"}
"""Nodes report themselves, events tell the past, component statuses are measured when one asks."""
MOVING_NAMESPACES = {"kube-node-lease", "kube-system", "lws-system"}
"""Where controllers and nodes renew their own leases."""


def versions(kubeconfig: Path) -> dict[str, str]:
    """``<path of the kind>/<namespace>/<name>`` to resourceVersion, of every kind that can be listed."""
    api = config.new_client_from_config(str(kubeconfig))
    found: dict[str, str] = {}
    for path, resource in _listable(api):
        for item in _get(api, f"{path}/{resource}").get("items") or []:
            metadata = item["metadata"]
            if metadata.get("namespace") not in MOVING_NAMESPACES:
                found[f"{path}/{resource}/{metadata.get('namespace', '')}/{metadata['name']}"] = metadata[
                    "resourceVersion"
                ]
    return found


def _listable(api: client.ApiClient) -> Iterator[tuple[str, str]]:
    groups = [f"/apis/{group['preferredVersion']['groupVersion']}" for group in _get(api, "/apis")["groups"]]
    for path in ("/api/v1", *groups):
        for resource in _get(api, path)["resources"]:
            if "list" in resource["verbs"] and resource["name"] not in MOVING:
                yield path, resource["name"]


def _get(api: client.ApiClient, path: str) -> Any:
    reply = api.call_api(
        path, "GET", auth_settings=["BearerToken"], _preload_content=False, _return_http_data_only=True
    )
    return json.loads(reply.data)
