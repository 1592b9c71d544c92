"""The model's HTTPRoute: somebody else's object, in which a rollout moves the weights of two Services and no more.

Source: Gateway API v1, HTTPRouteRule.backendRefs: a weight says which part of the rule's requests a reference gets, of
the sum of all weights; 1 where it is left out.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from llm_rollout import clock, names
from llm_rollout.ports import Manifest
from llm_rollout.spec import RolloutSpec

_ACCEPTED = "Accepted"
_CONDITIONS = (_ACCEPTED, "ResolvedRefs")
"""What a gateway says of a route: whether it takes it, and whether the Services in it exist."""
ALL = 100
"""The sum of the weights while requests are shared out: percent."""


def problem(route: Manifest, spec: RolloutSpec) -> str:
    """Why requests cannot be shared out by this route; empty where they can."""
    ours = [rule for rule in _rules(route) if _ours(rule, spec)]
    if not ours:
        return f"no rule of it sends requests to Service {spec.service.name}"
    for rule in ours:
        others = [ref["name"] for ref in rule["backendRefs"] if not _is_one_of_two(ref, spec)]
        if others:
            return f"a rule of it shares requests between Service {spec.service.name} and {', '.join(others)}"
    return ""


def share(route: Manifest, spec: RolloutSpec) -> int:
    """Percent of the requests that reach the candidate's Service; of several rules, the most."""
    return max((_share(rule, spec) for rule in _rules(route) if _ours(rule, spec)), default=0)


def is_shared(route: Manifest, spec: RolloutSpec) -> bool:
    """Whether it names the candidate's Service at all."""
    return any(_is_candidate(ref, spec) for rule in _rules(route) for ref in rule.get("backendRefs") or ())


def with_share(route: Manifest, spec: RolloutSpec, percent: int) -> Manifest:
    """The route with ``percent`` for the candidate's Service; with 0 it is as before anything was shared out.

    Whatever else the references and rules say (filters, matches, timeouts) stays.
    """
    changed = copy.deepcopy(route)
    for rule in _rules(changed):
        ours = _ours(rule, spec)
        if ours is not None:
            rule["backendRefs"] = list(_references(ours, spec, percent))
    return changed


def unheard(route: Manifest) -> str:
    """Which gateway does not send requests by the route as it is now; empty when all do.

    Source: Gateway API v1, RouteParentStatus: each condition names the generation that it speaks of.
    """
    generation = route["metadata"].get("generation", 0)
    for gateway, condition in _conditions(route):
        if condition.get("observedGeneration", 0) < generation:
            return f"Gateway {gateway} has not seen its latest change"
        if condition["status"] == "False":
            return f"Gateway {gateway}: {_told(condition)}"
    return ""


def refused(route: Manifest) -> str:
    """Why no gateway takes it, or which one does not; empty when all do."""
    if not route.get("status", {}).get("parents"):
        return "no gateway has accepted it"
    for gateway, condition in _conditions(route):
        if condition.get("type") == _ACCEPTED and condition["status"] == "False":
            return f"Gateway {gateway}: {_told(condition)}"
    return ""


def moved_at(route: Manifest) -> float:
    """Seconds since the epoch at which a rollout last moved requests by it; 0.0 before."""
    return clock.seconds(route["metadata"].get("annotations", {}).get(names.SWITCHED_ANNOTATION)) or 0.0


def _conditions(route: Manifest) -> Iterator[tuple[str, dict[str, Any]]]:
    for parent in route.get("status", {}).get("parents") or ():
        told: dict[str, dict[str, Any]] = {one["type"]: one for one in parent.get("conditions") or ()}
        for type_ in _CONDITIONS:
            yield parent.get("parentRef", {}).get("name", "?"), told.get(type_, {})


def _told(condition: dict[str, Any]) -> str:
    return f"{condition['type']} is False: {condition.get('reason')}: {condition.get('message')}"


def _rules(route: Manifest) -> list[dict[str, Any]]:
    return list(route.get("spec", {}).get("rules") or ())


def _ours(rule: dict[str, Any], spec: RolloutSpec) -> dict[str, Any] | None:
    """The rule's reference to the model's Service."""
    references = rule.get("backendRefs") or ()
    return next((ref for ref in references if _names(ref, spec, spec.service.name)), None)


def _references(ours: dict[str, Any], spec: RolloutSpec, percent: int) -> Iterator[dict[str, Any]]:
    plain = {key: value for key, value in ours.items() if key != "weight"}
    if not percent:
        yield plain
        return
    yield {**plain, "weight": ALL - percent}
    yield {**plain, "name": names.candidate_service_name(spec.service.name), "weight": percent}


def _share(rule: dict[str, Any], spec: RolloutSpec) -> int:
    weights = {ref["name"]: int(ref.get("weight", 1)) for ref in rule["backendRefs"] if _is_one_of_two(ref, spec)}
    candidate = weights.get(names.candidate_service_name(spec.service.name), 0)
    whole = sum(weights.values())
    return round(ALL * candidate / whole) if whole else 0


def _is_one_of_two(ref: dict[str, Any], spec: RolloutSpec) -> bool:
    return _names(ref, spec, spec.service.name) or _is_candidate(ref, spec)


def _is_candidate(ref: dict[str, Any], spec: RolloutSpec) -> bool:
    return _names(ref, spec, names.candidate_service_name(spec.service.name))


def _names(ref: dict[str, Any], spec: RolloutSpec, service: str) -> bool:
    kind, namespace = ref.get("kind", "Service"), ref.get("namespace", spec.namespace)
    return bool((kind, namespace, ref.get("name")) == ("Service", spec.namespace, service))
