"""Nothing of the old revisions runs, the autoscaler follows the new one."""

from __future__ import annotations

from dataclasses import dataclass

from llm_rollout import kinds, names
from llm_rollout.manifests.autoscaler import autoscaler
from llm_rollout.ports import Kind, Manifest, Ports
from llm_rollout.rollout import Rollout
from llm_rollout.steps import jobs as jobs_of
from llm_rollout.steps import pod_state, traffic
from llm_rollout.steps.traffic import Traffic
from llm_rollout.verdict import Act, Done, Fail, Verdict, Wait


@dataclass(frozen=True)
class Seen:
    """Everything of the model that is not of the revision that serves."""

    traffic: Traffic
    groups: tuple[Manifest, ...]
    """LeaderWorkerSets of other revisions."""
    pods: tuple[Manifest, ...]
    """Their pods."""
    left_over: tuple[tuple[Kind, Manifest], ...]
    """Jobs of earlier runs and the headless Services of their fabric Jobs. This run's are its proof, and stay until the
    next; as does the Job of the weights that serve. A run with nothing to do replaces no proof."""
    scaler: Manifest | None


@dataclass(frozen=True)
class Delete:
    """Objects to delete, each by its UID."""

    objects: tuple[tuple[Kind, Manifest], ...]


@dataclass(frozen=True)
class Scale:
    """The autoscaler to apply."""

    manifest: Manifest


def observe(rollout: Rollout, ports: Ports) -> Seen:
    """List what carries the model's label."""
    spec, plan = rollout.spec, rollout.planned
    mine = {names.MODEL_LABEL: spec.name}

    def others(kind: Kind, further: str = names.MODEL_LABEL) -> tuple[Manifest, ...]:
        found = ports.cluster.list(kind, spec.namespace, mine)
        return tuple(one for one in found if further in _labels(one) and _revision(one) != plan.revision_id)

    jobs = others(kinds.JOB)
    kept = {pod_state.name(job) for job in jobs if jobs_of.run_of(job) == rollout.run_id}
    kept.add(names.stage_job_name(spec.name, plan.commit))
    left = [(kinds.JOB, job) for job in jobs] + [
        (kinds.SERVICE, one) for one in others(kinds.SERVICE, names.STEP_LABEL)
    ]
    return Seen(
        traffic.observe(spec, ports),
        others(kinds.LEADER_WORKER_SET),
        others(kinds.POD, names.ROLE_LABEL),
        tuple((kind, one) for kind, one in left if pod_state.name(one) not in kept and not plan.already_live),
        ports.cluster.get(kinds.HORIZONTAL_POD_AUTOSCALER, spec.namespace, spec.name),
    )


def decide(rollout: Rollout, seen: Seen, now: float) -> Verdict:
    """Only when clients have been on the new revision for the drain time is the old one deleted."""
    spec, plan = rollout.spec, rollout.planned
    if seen.traffic.selected != plan.revision_id:
        return Fail(
            f"Service {spec.service.name} selects {seen.traffic.selected}, not {plan.revision_id}: nothing was deleted",
            "clear switch_service and what follows it, or start a new rollout",
        )
    scaled = _scaler(rollout, seen)
    if scaled is not None:
        return scaled
    going = [one for one in seen.groups if pod_state.is_going(one)]
    staying = [one for one in seen.groups if not pod_state.is_going(one)]
    left = seen.traffic.switched_at + spec.timing.drain_seconds - now
    if staying and left > 0:
        return Wait(f"{_named(staying)} drains", {"seconds_left": round(left)})
    doomed = [(kinds.LEADER_WORKER_SET, one) for one in staying]
    doomed += [(kind, one) for kind, one in seen.left_over if not pod_state.is_going(one)]
    if doomed:
        return Act(f"delete {_named([one for _, one in doomed])}", Delete(tuple(doomed)))
    if going or seen.pods:
        return Wait(f"{_named([*going, *seen.pods])} end", {"pods": len(seen.pods)})
    return Done(f"only {plan.lws} runs", {"lws": plan.lws})


def act(plan: object, ports: Ports) -> None:
    """Delete by UID, or apply the autoscaler."""
    if isinstance(plan, Scale):
        ports.cluster.apply(plan.manifest)
    for kind, one in plan.objects if isinstance(plan, Delete) else ():
        metadata = one["metadata"]
        ports.cluster.delete(kind, metadata["namespace"], metadata["name"], metadata["uid"])


def _scaler(rollout: Rollout, seen: Seen) -> Act | Fail | None:
    """Bring the autoscaler to what the spec asks for; one that is not ours is never touched."""
    spec, found = rollout.spec, seen.scaler
    ours = found is not None and traffic.is_ours(found, spec)
    if spec.autoscaling is None:
        doomed = found if ours and found and not pod_state.is_going(found) else None
        return Act("delete the autoscaler", Delete(((kinds.HORIZONTAL_POD_AUTOSCALER, doomed),))) if doomed else None
    if found is not None and not ours:
        return Fail(
            f"HorizontalPodAutoscaler {spec.name} exists without our label: it is somebody else's",
            "delete it, or take autoscaling out of the spec",
        )
    wanted = autoscaler(spec, rollout.planned.lws)
    if found is not None and _content(found) == _content(wanted):
        return None
    return Act(f"point the autoscaler at {rollout.planned.lws}", Scale(wanted))


def _labels(manifest: Manifest) -> dict[str, str]:
    return dict(manifest["metadata"].get("labels", {}))


def _revision(manifest: Manifest) -> str | None:
    return _labels(manifest).get(names.REVISION_LABEL)


def _content(manifest: Manifest) -> str | None:
    annotation: str | None = manifest["metadata"].get("annotations", {}).get(names.CONTENT_ANNOTATION)
    return annotation


def _named(manifests: list[Manifest]) -> str:
    return ", ".join(pod_state.name(one) for one in manifests)
