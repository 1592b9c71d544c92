"""A plan that can be carried out is in the record: the commit, the names, the nodes.

The runner has taken the model's lease and opened the run's entry before this step looks (not in a dry run).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from llm_rollout import kinds, lease, names, record
from llm_rollout.manifests.leader_worker_set import PORT_NAME, revision_content
from llm_rollout.manifests.stage_job import EXCLUDE, INCLUDE
from llm_rollout.ports import HubCommit, Manifest, Ports
from llm_rollout.record import Record
from llm_rollout.rollout import Rollout, RolloutPlan
from llm_rollout.spec import RolloutSpec
from llm_rollout.staging.listing import is_chosen
from llm_rollout.steps import capacity, forecast, permissions, pod_state, preconditions, traffic
from llm_rollout.steps.preconditions import Ground, Problem
from llm_rollout.steps.traffic import Traffic
from llm_rollout.verdict import Act, Done, Fail, Verdict


@dataclass(frozen=True)
class Seen:
    """The commit that is asked for, and everything a plan depends on."""

    ground: Ground
    record: Record
    commit: str = ""
    weights_bytes: int = 0
    traffic: Traffic = field(default_factory=lambda: Traffic(None))
    token: int = 0
    staged: bool = False


@dataclass(frozen=True)
class WritePlan:
    """The plan to put into the record."""

    rollout: Rollout
    plan: RolloutPlan


def observe(rollout: Rollout, ports: Ports) -> Seen:
    """Read the cluster, and the hub unless this run has resolved its revision already."""
    spec = rollout.spec
    found = record.load(ports.cluster, spec.namespace, spec.name)
    denied = permissions.missing(spec, ports.access)
    served = ports.access.serves(kinds.LEADER_WORKER_SET)
    if denied or not served:
        return Seen(Ground(denied=denied, lws_served=served), found)
    commit, weights_bytes = _resolved(rollout, found) or _resolve(rollout, ports)
    job = ports.cluster.get(kinds.JOB, spec.namespace, names.stage_job_name(spec.name, commit))
    return Seen(
        _ground(spec, ports, names.revision_id(commit, revision_content(spec))),
        found,
        commit,
        weights_bytes,
        traffic.observe(spec, ports),
        lease.read(ports.cluster, spec.namespace, spec.name).token,
        job is not None and pod_state.holds(job, "Complete"),
    )


def decide(rollout: Rollout, seen: Seen, now: float) -> Verdict:  # noqa: ARG001 (the shape of every step)
    """All problems at once, so that they are put right at once."""
    plan = _plan(rollout, seen) if seen.commit else None
    problems = list(_problems(rollout.spec, seen, plan))
    if problems or plan is None:
        return Fail(
            "; ".join(problem.cause for problem in problems),
            "; ".join(problem.remedy for problem in problems),
            {"nodes": [room.describe() for room in seen.ground.rooms]},
        )
    entry = seen.record.run(rollout.run_id)
    if not rollout.dry_run and (entry is None or entry.plan != plan):
        return Act(f"plan {plan.lws} on {', '.join(plan.nodes)}", WritePlan(rollout, plan))
    return _told(rollout, seen, plan)


def act(plan: object, ports: Ports) -> None:
    """Write the plan."""
    if not isinstance(plan, WritePlan):
        return
    run, wanted = plan.rollout, plan.plan

    def planned(found: Record) -> Record:
        return found.with_plan(run.run_id, wanted)

    record.update(ports.cluster, run.spec.namespace, run.spec.name, planned)


def _resolved(rollout: Rollout, found: Record) -> tuple[str, int] | None:
    """A run resolves its revision once: a branch that moves in between changes nothing."""
    entry = found.run(rollout.run_id)
    if entry is None or entry.plan is None or entry.revision != rollout.revision:
        return None
    same = entry.plan.spec.model.repo == rollout.spec.model.repo
    return (entry.plan.commit, entry.plan.weights_bytes) if same else None


def _resolve(rollout: Rollout, ports: Ports) -> tuple[str, int]:
    model = rollout.spec.model
    found = ports.hub.resolve(model.repo, rollout.revision, model.endpoint)
    return found.commit, _weights_bytes(found)


def _weights_bytes(found: HubCommit) -> int:
    """What the stage Job will fetch of the commit."""
    return sum(file.size_bytes for file in found.files if is_chosen(file.path, INCLUDE, EXCLUDE))


def _ground(spec: RolloutSpec, ports: Ports, revision_id: str) -> Ground:
    cluster = ports.cluster
    others = [pod for pod in cluster.list(kinds.POD, "") if not capacity.gives_way(pod, spec, revision_id)]
    rooms = capacity.rooms(cluster.list(kinds.NODE, ""), others, capacity.need_of(spec.server))
    return Ground(
        claim=cluster.get(kinds.PERSISTENT_VOLUME_CLAIM, spec.namespace, spec.store.claim),
        quotas=tuple(cluster.list(kinds.RESOURCE_QUOTA, spec.namespace)),
        rooms=tuple(rooms),
        groups=tuple(cluster.list(kinds.LEADER_WORKER_SET, spec.namespace)),
        service=cluster.get(kinds.SERVICE, spec.namespace, spec.service.name),
        route=cluster.get(kinds.HTTP_ROUTE, spec.namespace, spec.shift.http_route) if spec.shift else None,
    )


def _plan(rollout: Rollout, seen: Seen) -> RolloutPlan:
    spec = rollout.spec
    revision_id = names.revision_id(seen.commit, revision_content(spec))
    lws = names.lws_name(spec.name, revision_id)
    before = [entry.plan for entry in seen.record.rollouts if entry.plan and entry.plan.lws == lws]
    excluded = _excluded(rollout, seen, lws)
    nodes = capacity.choose(
        capacity.without(seen.ground.rooms, excluded),
        capacity.need_of(spec.server),
        spec.groups * spec.server.nodes_per_group,
        before[-1].nodes if before else (),
    )
    stable = _stable(rollout, seen, revision_id)
    return RolloutPlan(
        spec=spec,
        commit=seen.commit,
        revision_id=revision_id,
        lws=lws,
        nodes=tuple(nodes),
        excluded_nodes=excluded,
        weights_bytes=seen.weights_bytes,
        stable_lws=names.lws_name(spec.name, stable) if stable else None,
        stable_revision_id=stable,
        stable_port=_stable_port(rollout, seen, stable) if stable else None,
        fencing_token=seen.token,
    )


def _excluded(rollout: Rollout, seen: Seen, lws: str) -> dict[str, str]:
    """What this run found unfit for the same target stays out of it: a plan made again is the same."""
    entry = seen.record.run(rollout.run_id)
    return entry.plan.excluded_nodes if entry and entry.plan and entry.plan.lws == lws else {}


def _stable(rollout: Rollout, seen: Seen, revision_id: str) -> str | None:
    """The revision that served when this run was first planned: after its own switch the Service says the candidate."""
    entry = seen.record.run(rollout.run_id)
    earlier = entry.plan if entry and entry.plan and entry.plan.revision_id == revision_id else None
    if earlier is not None and seen.traffic.selected == revision_id:
        return earlier.stable_revision_id
    selected = earlier.stable_revision_id if earlier else seen.traffic.selected
    running = {group["metadata"].get("labels", {}).get(names.REVISION_LABEL) for group in seen.ground.groups}
    return selected if selected in running else None


def _stable_port(rollout: Rollout, seen: Seen, stable: str) -> int | None:
    """Where stable's leaders say that they listen; once stable is retired, what this run's plan said stands."""
    for group in seen.ground.groups:
        if group["metadata"]["name"] == names.lws_name(rollout.spec.name, stable):
            return _listens_on(group)
    entry = seen.record.run(rollout.run_id)
    return entry.plan.stable_port if entry and entry.plan else None


def _listens_on(group: Manifest) -> int | None:
    """The leader's named port, as the group was applied."""
    template = group.get("spec", {}).get("leaderWorkerTemplate", {}).get("leaderTemplate") or {}
    containers = template.get("spec", {}).get("containers", [])
    ports = [port for one in containers for port in one.get("ports", []) if port.get("name") == PORT_NAME]
    return int(ports[0]["containerPort"]) if ports else None


def _problems(spec: RolloutSpec, seen: Seen, plan: RolloutPlan | None) -> list[Problem]:
    problems = [*preconditions.of_identity(seen.ground, spec), *preconditions.of_route(seen.ground, spec)]
    if plan is not None:
        problems += preconditions.of_claim(seen.ground, spec, plan.weights_bytes)
        problems += preconditions.of_names(seen.ground, spec, plan.lws)
    if plan is not None and not plan.already_live:
        ground = replace(seen.ground, rooms=tuple(capacity.without(seen.ground.rooms, plan.excluded_nodes)))
        problems += preconditions.of_capacity(ground, spec, plan.nodes)
    return problems


def _told(rollout: Rollout, seen: Seen, plan: RolloutPlan) -> Done:
    evidence: dict[str, Any] = forecast.forecast(plan, seen.record, seen.ground.rooms, staged=seen.staged)
    if plan.already_live:
        return Done(f"{plan.revision_id} (commit {plan.commit}) is live already: nothing to do", evidence)
    dry = "dry run, nothing was written: would put " if rollout.dry_run else ""
    beside = f" beside {plan.stable_lws}" if plan.stable_lws else ", the first deployment"
    return Done(f"{dry}{plan.lws} (commit {plan.commit}) on {', '.join(plan.nodes)}{beside}", evidence)
