"""Requests move to the candidate in steps, by the weights of the model's HTTPRoute, and every step is judged.

Where requests go stands in the route and nowhere else. ``shift_judgement`` says whether a step has passed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from llm_rollout import clock, kinds, names
from llm_rollout.manifests import http_route
from llm_rollout.manifests.service import candidate_service
from llm_rollout.ports import Manifest, Ports
from llm_rollout.rollout import Rollout
from llm_rollout.spec import RolloutSpec, Shift
from llm_rollout.steps import pod_state, shift_judgement, traffic
from llm_rollout.steps.group_state import GroupState
from llm_rollout.steps.shift_judgement import Judged
from llm_rollout.steps.traffic import Traffic
from llm_rollout.verdict import Act, Fail, Verdict, Wait


@dataclass(frozen=True)
class Shifting:
    """What moves requests, and what both revisions say of theirs."""

    route: Manifest | None
    beside: Traffic = field(default_factory=lambda: Traffic(None))
    """The candidate's own Service."""
    leaders: tuple[Manifest, ...] = ()
    """The candidate's."""
    judged: Judged = field(default_factory=Judged)


@dataclass(frozen=True)
class Share:
    """Give the candidate this percentage of the requests, if nobody changed the route since it was seen."""

    spec: RolloutSpec
    seen: Manifest
    percent: int
    token: int
    now: float


@dataclass(frozen=True)
class Expose:
    """Bring the candidate's own Service about."""

    manifest: Manifest


def observe(rollout: Rollout, ports: Ports, candidate: GroupState) -> Shifting | None:
    """Read route, Service, journal and both revisions' counters; None where nothing is to move in steps."""
    spec, shift = rollout.spec, rollout.spec.shift
    if shift is None or rollout.planned.stable_lws is None:
        return None
    return Shifting(
        ports.cluster.get(kinds.HTTP_ROUTE, spec.namespace, shift.http_route),
        traffic.behind(names.candidate_service_name(spec.service.name), spec, ports),
        candidate.leaders,
        shift_judgement.observe(rollout, ports, candidate),
    )


def step(rollout: Rollout, seen: Shifting, now: float) -> Verdict | None:
    """What is next on the way to the last step; None once it has passed and all requests may move."""
    spec, shift = rollout.spec, rollout.spec.shift
    if shift is None:
        return None
    unusable = problem(spec, shift, seen.route)
    if unusable is not None or seen.route is None:
        return unusable
    share = http_route.share(seen.route, spec)
    return (
        _prepared(rollout, seen, seen.route, share, now)
        or _unheard(seen.route, share)
        or (shift_judgement.step(rollout, seen.judged, shift, share, now) if share else None)
        or _next(rollout, seen.route, share, now)
    )


def back(rollout: Rollout, route: Manifest | None, now: float) -> Act | Wait | None:
    """Take the candidate out of the route; None when it is out and every gateway knows."""
    if rollout.spec.shift is None or route is None:
        return None
    if http_route.is_shared(route, rollout.spec):
        what = f"HTTPRoute {pod_state.name(route)}: all requests to Service {rollout.spec.service.name}"
        return Act(what, _share(rollout, route, 0, now))
    return _unheard(route, 0)


def act(plan: object, ports: Ports) -> None:
    """Move requests, bring the Service about, or note the judgement."""
    if isinstance(plan, Share):
        changed = http_route.with_share(plan.seen, plan.spec, plan.percent)
        stamps = {names.FENCE_ANNOTATION: str(plan.token), names.SWITCHED_ANNOTATION: clock.rfc3339(plan.now)}
        annotations = {**plan.seen["metadata"].get("annotations", {}), **stamps}
        ports.cluster.replace({**changed, "metadata": {**changed["metadata"], "annotations": annotations}})
    if isinstance(plan, Expose):
        ports.cluster.apply(plan.manifest)
    if isinstance(plan, shift_judgement.Note):
        shift_judgement.act(plan, ports)


def evidence(rollout: Rollout, seen: Shifting | None) -> dict[str, Any]:
    """Numbers for the record; empty where nothing was judged."""
    found = shift_judgement.evidence(rollout, seen.judged) if seen else {}
    return {"shift": found} if found else {}


def problem(spec: RolloutSpec, shift: Shift, route: Manifest | None) -> Fail | None:
    """Why requests cannot move by this route, with the remedy."""
    where = f"HTTPRoute {spec.namespace}/{shift.http_route}"
    if route is None:
        return Fail(f"{where} does not exist", "create it, correct shift.http_route, or take shift out of the spec")
    if found := http_route.problem(route, spec):
        remedy = f"let a rule send its requests to Service {spec.service.name} and no other"
        return Fail(f"{where}: {found}", f"{remedy}, or take shift out of the spec")
    if found := http_route.refused(route):
        return Fail(f"{where}: {found}", "look at the Gateway that it names, or take shift out of the spec")
    return None


def _prepared(rollout: Rollout, seen: Shifting, route: Manifest, share: int, now: float) -> Verdict | None:
    """Before the first share the candidate's Service has to lead to all of its leaders."""
    spec, beside, wanted = rollout.spec, seen.beside, rollout.planned.revision_id
    if beside.service is not None and not traffic.is_ours(beside.service, spec):
        cause = f"Service {pod_state.name(beside.service)} exists without our label: it is somebody else's"
        return Fail(cause, "rename or delete it, then clear this task")
    if beside.selected != wanted:
        if share:
            what = f"take an earlier run's share out of HTTPRoute {pod_state.name(route)}"
            return Act(what, _share(rollout, route, 0, now))
        manifest = candidate_service(spec, wanted)
        return Act(f"apply Service {pod_state.name(manifest)}", Expose(manifest))
    differs = traffic.difference(beside, seen.leaders)
    return Wait(differs) if differs and not share else None


def _unheard(route: Manifest, share: int) -> Wait | None:
    told = http_route.unheard(route)
    return Wait(f"HTTPRoute {pod_state.name(route)}: {told}", {"percent": share}) if told else None


def _next(rollout: Rollout, route: Manifest, share: int, now: float) -> Act | None:
    steps = rollout.spec.shift.percent if rollout.spec.shift else ()
    larger = next((percent for percent in steps if percent > share), None)
    if larger is None:
        return None
    what = f"HTTPRoute {pod_state.name(route)}: {share} % -> {larger} % of the requests for the candidate"
    return Act(what, _share(rollout, route, larger, now))


def _share(rollout: Rollout, route: Manifest, percent: int, now: float) -> Share:
    token = rollout.plan.fencing_token if rollout.plan else 0
    return Share(rollout.spec, route, percent, token, now)
