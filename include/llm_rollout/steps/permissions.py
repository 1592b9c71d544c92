"""What the steps do to which resource: asked before anything is written, and the source of the RBAC rules."""

from __future__ import annotations

from dataclasses import dataclass

from llm_rollout import kinds
from llm_rollout.ports import Access, Kind
from llm_rollout.spec import RolloutSpec


@dataclass(frozen=True)
class Permission:
    """Verbs on one resource; ``everywhere`` means in all namespaces."""

    kind: Kind
    verbs: tuple[str, ...]
    subresource: str = ""
    everywhere: bool = False


NEEDED = (
    Permission(kinds.CONFIG_MAP, ("get", "create", "update")),
    Permission(kinds.LEASE, ("get", "create", "update")),
    Permission(kinds.LEADER_WORKER_SET, ("get", "list", "create", "patch", "delete")),
    Permission(kinds.JOB, ("get", "list", "create", "delete")),
    Permission(kinds.SERVICE, ("get", "list", "create", "update", "patch", "delete")),
    Permission(kinds.SERVICE, ("get", "create"), "proxy"),
    Permission(kinds.POD, ("get", "list")),
    Permission(kinds.POD, ("get",), "log"),
    Permission(kinds.POD, ("get", "create"), "proxy"),
    Permission(kinds.EVENT, ("list",)),
    Permission(kinds.ENDPOINT_SLICE, ("list",)),
    Permission(kinds.PERSISTENT_VOLUME_CLAIM, ("get",)),
    Permission(kinds.RESOURCE_QUOTA, ("list",)),
    Permission(kinds.NODE, ("get", "list"), everywhere=True),
    Permission(kinds.POD, ("list",), everywhere=True),
    Permission(kinds.HORIZONTAL_POD_AUTOSCALER, ("get",)),
)
"""What every rollout needs."""
FOR_AUTOSCALING = (Permission(kinds.HORIZONTAL_POD_AUTOSCALER, ("create", "patch", "delete")),)
FOR_POD_MONITOR = (Permission(kinds.POD_MONITOR, ("get", "create", "patch")),)
FOR_SHIFT = (Permission(kinds.HTTP_ROUTE, ("get", "update")),)
FOR_ATTACHMENTS = (Permission(kinds.NETWORK_ATTACHMENT, ("list",)),)

_WATCHED = (kinds.LEADER_WORKER_SET, kinds.POD, kinds.EVENT, kinds.JOB, kinds.SERVICE)
WHERE_ALLOWED = (
    *(Permission(kind, ("watch",)) for kind in _WATCHED),
    Permission(kinds.ENDPOINT_SLICE, ("get", "watch")),
    Permission(kinds.CONFIG_MAP, ("list", "watch")),
    Permission(kinds.NODE, ("watch",), everywhere=True),
    Permission(kinds.IP_POOL, ("list",), everywhere=True),
    Permission(kinds.CUSTOM_RESOURCE_DEFINITION, ("get",), everywhere=True),
)
"""What is read where it may be. Without watches waits list every five seconds; without address pools the inventory of
the fabric says what it could not tell; without the definition LeaderWorkerSet's own bound on recreations is not set."""


def needed(spec: RolloutSpec) -> tuple[Permission, ...]:
    """What this spec needs."""
    scaling = FOR_AUTOSCALING if spec.autoscaling else ()
    monitor = FOR_POD_MONITOR if spec.pod_monitor else ()
    attachments = FOR_ATTACHMENTS if spec.server.network.attachments else ()
    shift = FOR_SHIFT if spec.shift else ()
    return (*NEEDED, *scaling, *monitor, *attachments, *shift)


def missing(spec: RolloutSpec, access: Access) -> tuple[str, ...]:
    """What this identity may not do, one text for each resource."""
    return tuple(filter(None, (_denied(one, spec.namespace, access) for one in needed(spec))))


def _denied(one: Permission, namespace: str, access: Access) -> str:
    where = "" if one.everywhere else namespace
    denied = [verb for verb in one.verbs if not access.may(verb, one.kind, where, one.subresource)]
    resource = f"{one.kind.plural}/{one.subresource}" if one.subresource else one.kind.plural
    group = f" ({one.kind.group})" if one.kind.group else ""
    return f"{','.join(denied)} {resource}{group} in {where or 'all namespaces'}" if denied else ""
