"""What strikes a pod from outside of its containers, in the words of a kubelet (Kubernetes 1.36) and of containerd."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from devcluster.node.faults import Fault

SUDDEN = ("kill", "oom", "evict")
"""Faults that end a container while it runs."""
PULLS = ("image_pull", "image_denied", "image_unreachable")
"""Faults of the registry."""
_LOOK_SECONDS = 0.05
_GIGABYTE = 2**30
_IMAGE_BYTES = 11_274_289_152
"""Of vLLM's image, unpacked by nobody here."""

_EVICTION = (
    "The node was low on resource: ephemeral-storage. Threshold quantity: {threshold}, available: {available}Ki. "
    "Container {container} was using {used}Ki, request is 0, has larger consumption of ephemeral-storage. "
)
_RESOLVING = 'failed to pull and unpack image "{image}": failed to resolve reference "{image}": '
_REGISTRY = {
    "image_pull": f"rpc error: code = NotFound desc = {_RESOLVING}{{image}}: not found",
    "image_denied": (
        f"rpc error: code = Unknown desc = {_RESOLVING}pull access denied, repository does not exist or may require "
        "authorization: server message: insufficient_scope: authorization failed"
    ),
    "image_unreachable": (
        f"rpc error: code = DeadlineExceeded desc = {_RESOLVING}failed to do request: Head "
        '"https://registry.invalid/v2/{path}/manifests/{tag}": dial tcp 192.0.2.1:443: i/o timeout'
    ),
}
_MOUNT = (
    'MountVolume.SetUp failed for volume "{volume}" : mount failed: exit status 32\nMounting command: mount\n'
    "Mounting arguments: -t nfs 192.0.2.9:/models /var/lib/kubelet/pods/{uid}/volumes/kubernetes.io~nfs/{volume}\n"
    "Output: mount.nfs: Connection timed out\n"
)


async def moment(fault: Fault, log: Path) -> None:
    """Return when a fault strikes: after its seconds, and not before the container has said what it waits for."""
    words = str(fault.get("said") or "").encode()
    while not _says(log, words):  # noqa: ASYNC110 - the log of another program has no event
        await asyncio.sleep(_LOOK_SECONDS)
    await asyncio.sleep(float(fault.get("seconds") or 0))


def _says(log: Path, words: bytes) -> bool:
    return words in log.read_bytes()


def eviction(container: str) -> str:
    """The message of a pod that has to make room."""
    threshold, available, used = 107_374_182_400, 94 * _GIGABYTE // 1024, 873 * _GIGABYTE // 1024
    return _EVICTION.format(container=container, threshold=threshold, available=available, used=used)


def evicted(message: str) -> dict[str, Any]:
    """What an eviction changes in a pod's status."""
    return {"phase": "Failed", "reason": "Evicted", "message": message}


def refused_pull(kind: str, image: str) -> str:
    """Why an image cannot be pulled, as containerd says it."""
    name, _, tag = image.rpartition(":") if ":" in image.rpartition("/")[2] else (image, "", "latest")
    return _REGISTRY[kind].format(image=image, path=name, tag=tag)


def pulled(image: str, seconds: float) -> str:
    """The message of the event after a pull."""
    took = f"{seconds:.3f}s"
    return (
        f'Successfully pulled image "{image}" in {took} ({took} including waiting). Image size: {_IMAGE_BYTES} bytes.'
    )


def failed_mount(volume: str, uid: str) -> str:
    """The message of the event after a storage server did not answer."""
    return _MOUNT.format(volume=volume, uid=uid)
