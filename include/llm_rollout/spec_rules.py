"""What several fields of a spec can get wrong together, or one field in a way that no pattern can say.

A rule is a pure function of the spec. It names the fields it reads, so that it is left out where one of them is
already known to be wrong: nobody needs two messages about one mistake.
"""

from __future__ import annotations

import difflib
import re
import zoneinfo
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from llm_rollout.canary.rules import MIN_ROUNDS
from llm_rollout.spec import RolloutSpec


@dataclass(frozen=True)
class Broken:
    """A broken rule; a :class:`~llm_rollout.spec_problems.Problem` that does not know its file yet."""

    field_path: str
    value: Any
    message: str
    remedy: str


@dataclass(frozen=True)
class Rule:
    """One rule and the fields (or parts of the spec) that it reads."""

    reads: tuple[str, ...]
    broken: Callable[[RolloutSpec], Iterator[Broken]]


def parallelism(spec: RolloutSpec) -> Iterator[Broken]:
    """Every GPU of a group is one rank: the two products must agree."""
    server = spec.server
    ranks = server.tensor_parallel * server.pipeline_parallel
    gpus = server.nodes_per_group * server.gpus_per_node
    if ranks == gpus:
        return
    inside_a_node = server.tensor_parallel == server.gpus_per_node
    field = "pipeline_parallel" if inside_a_node else "tensor_parallel"
    yield Broken(
        f"server.{field}",
        getattr(server, field),
        f"tensor_parallel * pipeline_parallel = {server.tensor_parallel} * {server.pipeline_parallel} = {ranks} ranks, "
        f"but nodes_per_group * gpus_per_node = {server.nodes_per_group} * {server.gpus_per_node} = {gpus} GPUs",
        f"set tensor_parallel: {server.gpus_per_node} and pipeline_parallel: {server.nodes_per_group}",
    )


def service_name(spec: RolloutSpec) -> Iterator[Broken]:
    """LeaderWorkerSet makes a headless Service of its own name; ours must never be mistaken for one."""
    name, service = re.escape(spec.name), spec.service.name
    remedy = f"choose another name, for example {spec.name[:36].rstrip('-')}-api"
    taken = rf"{name}|{name}-[a-p]{{8}}|{name}-\d+|{name}-fabric-[a-p]{{8}}"
    if re.fullmatch(taken, service):
        message = "the name is kept for the model's LeaderWorkerSets, whose own headless Services would collide with it"
        yield Broken("service.name", service, message, remedy)


def window(spec: RolloutSpec) -> Iterator[Broken]:
    """A window must be somewhere on the clock and on the map."""
    if spec.upgrades is None:
        return
    asked = spec.upgrades.window
    if asked.start == asked.end:
        message = "the window ends when it starts, so no upgrade would ever start"
        yield Broken("upgrades.window.end", asked.end, message, "choose a later end; before start means the next day")
    if not _is_zone(asked.timezone):
        near = difflib.get_close_matches(asked.timezone, sorted(zoneinfo.available_timezones()), n=1, cutoff=0.5)
        remedy = f"write {near[0]}" if near else "write an IANA name such as Europe/Berlin or Etc/UTC"
        yield Broken("upgrades.window.timezone", asked.timezone, "not an IANA time zone", remedy)


def upgrades_need_a_moving_revision(spec: RolloutSpec) -> Iterator[Broken]:
    """A commit never gets a new commit."""
    if spec.upgrades is not None and re.fullmatch(r"[0-9a-f]{40}", spec.model.revision):
        message = "upgrades wait for a new commit of the revision, but a commit never moves"
        yield Broken("model.revision", spec.model.revision, message, "name a branch, or remove upgrades")


def fractions(spec: RolloutSpec) -> Iterator[Broken]:
    """Between the two limits lies DEGRADED."""
    fabric = spec.fabric
    if fabric.warn_fraction_of_rate < fabric.min_fraction_of_rate:
        yield Broken(
            "fabric.warn_fraction_of_rate",
            fabric.warn_fraction_of_rate,
            f"below min_fraction_of_rate = {fabric.min_fraction_of_rate}, so nothing could ever be DEGRADED",
            f"set it to at least {fabric.min_fraction_of_rate}",
        )


def fabric_time(spec: RolloutSpec) -> Iterator[Broken]:
    """Rounds of disjoint pairs: n - 1 for an even number of nodes, n for an odd one, each pair in both directions."""
    nodes = spec.groups * spec.server.nodes_per_group
    rounds = nodes - 1 if nodes % 2 == 0 else nodes
    needed = 2 * rounds * spec.fabric.seconds_per_pair
    if nodes > 1 and spec.fabric.deadline_seconds < needed:
        yield Broken(
            "fabric.deadline_seconds",
            spec.fabric.deadline_seconds,
            f"{nodes} nodes take {rounds} rounds of 2 * {spec.fabric.seconds_per_pair} s = {needed} s at least",
            f"set it to at least {2 * needed}, or lower fabric.seconds_per_pair",
        )


def transport(spec: RolloutSpec) -> Iterator[Broken]:
    """Without an RDMA device no measurement can run on RDMA."""
    if spec.server.network.rdma_resource is None and set(spec.fabric.accept_transports) == {"rdma"}:
        message = "without an RDMA device the fabric can never pass, since only rdma is accepted"
        remedy = "name the resource, or set fabric.accept_transports: [rdma, tcp]"
        yield Broken("server.network.rdma_resource", None, message, remedy)


def canary_size(spec: RolloutSpec) -> Iterator[Broken]:
    """As many rounds as a promotion takes have to fit."""
    canary = spec.canary
    most = canary.max_pairs // MIN_ROUNDS
    if canary.round_pairs > most:
        message = f"nothing could be promoted: that takes {MIN_ROUNDS} rounds, and max_pairs = {canary.max_pairs}"
        yield Broken("canary.round_pairs", canary.round_pairs, message, f"set it to at most {most}")


def canary_tasks(spec: RolloutSpec) -> Iterator[Broken]:
    """A bundled name, a ConfigMap's key, or a path that the Job's mount of the store reaches."""
    tasks, root = spec.canary.tasks, spec.store.mount_path.rstrip("/")
    on_store = tasks.startswith(f"{root}/") and ".." not in tasks.split("/")
    in_map = re.fullmatch(r"configmap:[a-z0-9]([-.a-z0-9]*[a-z0-9])?/[-._a-zA-Z0-9]+", tasks)
    if not on_store and not in_map and not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", tasks):
        message = "neither a bundled task set, nor configmap:NAME/KEY, nor a path on the store"
        remedy = f"write arithmetic, starter, or a path such as {root}/tasks/own.jsonl"
        yield Broken("canary.tasks", tasks, message, remedy)


def mount_path(spec: RolloutSpec) -> Iterator[Broken]:
    """A mount hides what lies below it."""
    path = spec.store.mount_path
    top = path.split("/")[1] if path.count("/") else ""
    if top in {"", "bin", "dev", "etc", "lib", "lib64", "proc", "run", "sbin", "sys", "usr"} or ".." in path.split("/"):
        message = "a mount there would hide the container's own files"
        yield Broken("store.mount_path", path, message, "choose a path of its own such as /models")


def source_directory(spec: RolloutSpec) -> Iterator[Broken]:
    """The staging Job sees no directory but the store."""
    endpoint, root = spec.model.endpoint, spec.store.mount_path.rstrip("/")
    path = endpoint.removeprefix("file://")
    if path != endpoint and (not path.startswith(f"{root}/") or ".." in path.split("/")):
        message = f"the Job that stages mounts the store only, at {root}"
        yield Broken("model.endpoint", endpoint, message, f"write file://{root}/..., or an s3:// or gs:// address")


def source_secret(spec: RolloutSpec) -> Iterator[Broken]:
    """Credentials of an object store mean nothing to a hub."""
    if spec.model.source_secret is not None and not spec.model.endpoint.startswith(("s3://", "gs://")):
        message = f"not used: model.endpoint = {spec.model.endpoint} is no object store"
        yield Broken("model.source_secret", spec.model.source_secret, message, "remove it, or name an s3:// address")


def autoscaling(spec: RolloutSpec) -> Iterator[Broken]:
    """A rollout starts with ``groups``, and the autoscaler goes on from there."""
    scaling = spec.autoscaling
    if scaling is None:
        return
    if scaling.min_groups > scaling.max_groups:
        message = f"above autoscaling.max_groups = {scaling.max_groups}"
        yield Broken("autoscaling.min_groups", scaling.min_groups, message, f"set it to at most {scaling.max_groups}")
    elif not scaling.min_groups <= spec.groups <= scaling.max_groups:
        message = f"outside of autoscaling's {scaling.min_groups} to {scaling.max_groups} groups"
        remedy = f"set groups from {scaling.min_groups} to {scaling.max_groups}; a rollout starts with so many"
        yield Broken("groups", spec.groups, message, remedy)


def patience(spec: RolloutSpec) -> Iterator[Broken]:
    """A phase that may be silent for longer than the whole start may take is never called stalled."""
    limit = spec.timing.cold_start_seconds
    for phase, seconds in spec.timing.patience.asked().items():
        if seconds > limit:
            message = f"above timing.cold_start_seconds = {limit}: the deadline would always come first"
            remedy = f"set it to at most {limit}, or raise timing.cold_start_seconds"
            yield Broken(f"timing.patience.{phase}", int(seconds), message, remedy)


def shift(spec: RolloutSpec) -> Iterator[Broken]:
    """A share that falls would take users back without a reason, and steps must fit into their deadline."""
    if spec.shift is None:
        return
    percent, steps = spec.shift.percent, len(spec.shift.percent)
    for index, (before, share) in enumerate(pairwise(percent), start=1):
        if share <= before:
            message = f"not above {before}, the share before it"
            yield Broken(f"shift.percent[{index}]", share, message, "let every step be larger than the one before")
    if spec.shift.deadline_seconds < steps * spec.shift.step_seconds:
        message = f"{steps} steps take {spec.shift.step_seconds} s each, {steps * spec.shift.step_seconds} s at least"
        remedy = f"set it to at least {2 * steps * spec.shift.step_seconds}, or lower shift.step_seconds"
        yield Broken("shift.deadline_seconds", spec.shift.deadline_seconds, message, remedy)


def duplicates(spec: RolloutSpec) -> Iterator[Broken]:
    """Lists in which an item can only stand once."""
    lists: dict[str, tuple[str, ...]] = {
        "server.network.hcas": spec.server.network.hcas,
        "fabric.accept_transports": spec.fabric.accept_transports,
    }
    if spec.upgrades is not None:
        lists["upgrades.window.days"] = spec.upgrades.window.days
    for path, items in lists.items():
        for index, item in enumerate(items):
            if item in items[:index]:
                yield Broken(f"{path}[{index}]", item, "stands in the list twice", "remove one of them")


def _is_zone(name: str) -> bool:
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


RULES = (
    Rule(
        ("server.tensor_parallel", "server.pipeline_parallel", "server.nodes_per_group", "server.gpus_per_node"),
        parallelism,
    ),
    Rule(("name", "service"), service_name),
    Rule(("upgrades",), window),
    Rule(("upgrades", "model.revision"), upgrades_need_a_moving_revision),
    Rule(("fabric.min_fraction_of_rate", "fabric.warn_fraction_of_rate"), fractions),
    Rule(("groups", "server.nodes_per_group", "fabric.seconds_per_pair", "fabric.deadline_seconds"), fabric_time),
    Rule(("server.network.rdma_resource", "fabric.accept_transports"), transport),
    Rule(("canary.round_pairs", "canary.max_pairs"), canary_size),
    Rule(("canary.tasks", "store.mount_path"), canary_tasks),
    Rule(("store.mount_path",), mount_path),
    Rule(("model.endpoint", "store.mount_path"), source_directory),
    Rule(("model.endpoint", "model.source_secret"), source_secret),
    Rule(("groups", "autoscaling"), autoscaling),
    Rule(("timing.patience", "timing.cold_start_seconds"), patience),
    Rule(("shift",), shift),
    Rule(("server.network.hcas", "fabric.accept_transports", "upgrades"), duplicates),
)
