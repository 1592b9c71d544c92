"""A storage class whose claims are folders of the devcluster's home, shared by all nodes."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from typing import Any

from devcluster.api import Api
from devcluster.layout import ROOT_ADDRESS, Layout

CLASS = "devcluster"
MODEL_STORE = "model-store"

_CLAIMS = "/api/v1/persistentvolumeclaims"
_VOLUMES = "/api/v1/persistentvolumes"


async def create(api: Api) -> None:
    """Create the class, as the default, and the claim ``model-store`` in ``default``."""
    marks = {"storageclass.kubernetes.io/is-default-class": "true"}
    storage_class = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": CLASS, "annotations": marks},
        "provisioner": "devcluster/folder",
    }
    await api.create("/apis/storage.k8s.io/v1/storageclasses", storage_class)
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": MODEL_STORE},
        "spec": {
            "storageClassName": CLASS,
            "accessModes": ["ReadWriteMany"],
            "resources": {"requests": {"storage": "1Ti"}},
        },
    }
    await api.create("/api/v1/namespaces/default/persistentvolumeclaims", claim)


async def provision(api: Api, layout: Layout) -> None:
    """Give every claim of the class a volume, and remove volume and folder with the claim, for ever."""
    provided: dict[str, str] = {}
    async for claims in api.snapshots(_CLAIMS):
        for key, claim in claims.items():
            uid = claim["metadata"]["uid"]
            if claim["spec"].get("storageClassName") == CLASS and provided.get(key) != uid:
                layout.volume(*key.split("/")).mkdir(parents=True, exist_ok=True)
                await api.create(_VOLUMES, volume(claim))
                provided[key] = uid
        for key in provided.keys() - claims.keys():
            await api.delete(f"{_VOLUMES}/{_name(provided.pop(key))}")
            shutil.rmtree(layout.volume(*key.split("/")), ignore_errors=True)


def volume(claim: Mapping[str, Any]) -> dict[str, Any]:
    """The volume of a claim. NFS needs no attaching and allows every access mode; nobody ever mounts it."""
    metadata, spec = claim["metadata"], claim["spec"]
    reference = {"kind": "PersistentVolumeClaim", "apiVersion": "v1"} | {
        key: metadata[key] for key in ("namespace", "name", "uid")
    }
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": _name(metadata["uid"])},
        "spec": {
            "storageClassName": CLASS,
            "capacity": spec["resources"]["requests"],
            "accessModes": spec["accessModes"],
            "persistentVolumeReclaimPolicy": "Retain",
            "claimRef": reference,
            "nfs": {"server": ROOT_ADDRESS, "path": f"/{metadata['namespace']}/{metadata['name']}"},
        },
    }


def _name(uid: str) -> str:
    return f"pvc-{uid}"
