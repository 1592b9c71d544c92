"""Another node in the place of one that ended two generations of a candidate, once, and with its fabric validated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llm_rollout import kinds
from llm_rollout.ports import Ports
from llm_rollout.rollout import Rollout
from llm_rollout.steps import capacity, restart_ledger, validate_rdma
from llm_rollout.steps.capacity import Room
from llm_rollout.steps.group_state import GroupState
from llm_rollout.steps.restart_ledger import Ledger
from llm_rollout.steps.validate_rdma import Exclude
from llm_rollout.verdict import Act, Done, Fail, Verdict, Wait


@dataclass(frozen=True)
class Elsewhere:
    """What is needed to go on without a node. Exactly one of both is set."""

    rooms: Sequence[Room] | None = None
    """What the nodes have left, while the plan still has the bad one."""
    fabric: validate_rdma.Seen | None = None
    """What ``validate_rdma`` sees, once the plan leaves it out."""


def observe(rollout: Rollout, ports: Ports, seen: GroupState) -> Elsewhere | None:
    """Read what other nodes offer; None, and nothing is read, unless the candidate pauses and a node is to blame."""
    ledger = restart_ledger.read(seen.lws) if seen.lws else Ledger()
    if ledger.resume_at is None or ledger.bad_node is None or not rollout.spec.fabric.replan:
        return None
    if ledger.bad_node in rollout.planned.excluded_nodes:
        return Elsewhere(fabric=validate_rdma.observe(rollout, ports))
    spec, cluster = rollout.spec, ports.cluster
    revision_id = rollout.planned.revision_id
    others = [pod for pod in cluster.list(kinds.POD, "") if not capacity.gives_way(pod, spec, revision_id)]
    return Elsewhere(rooms=capacity.rooms(cluster.list(kinds.NODE, ""), others, capacity.need_of(spec.server)))


def decide(rollout: Rollout, ledger: Ledger, elsewhere: Elsewhere | None, now: float) -> Verdict | None:
    """Change the plan, then validate the fabric of the changed one; None when neither is to be done.

    No spare is no failure: the candidate goes on where it is, as long as its budget lasts.
    """
    node = ledger.bad_node
    if elsewhere is None or node is None:
        return None
    if elsewhere.fabric is not None:
        return _validated(rollout, elsewhere.fabric, now)
    plan = rollout.planned
    if node not in plan.nodes or plan.excluded_nodes:
        return None
    why = f"{sum(one.node == node for one in ledger.ended)} starts failed there first: {_classes(ledger, node)}"
    rest = [other for other in plan.nodes if other != node]
    rooms = capacity.without(elsewhere.rooms or (), {node: why})
    nodes = capacity.choose(rooms, capacity.need_of(rollout.spec.server), len(plan.nodes), rest)
    if len(nodes) < len(plan.nodes):
        return None
    changed = plan.model_copy(update={"nodes": tuple(nodes), "excluded_nodes": {node: why}})
    return Act(f"leave {node} out and plan on {', '.join(nodes)}", Exclude(rollout, changed))


def act(plan: object, ports: Ports) -> None:
    """What ``validate_rdma`` would do: the changed plan, or the Job that measures its nodes."""
    validate_rdma.act(plan, ports)


def _validated(rollout: Rollout, fabric: validate_rdma.Seen, now: float) -> Verdict | None:
    """The gate holds for the new nodes too: nothing starts on them before it is Done."""
    verdict = validate_rdma.decide(rollout, fabric, now)
    if isinstance(verdict, Done):
        return None
    if isinstance(verdict, Wait):
        return Wait(f"the fabric of {', '.join(rollout.planned.nodes)} is measured: {verdict.reason}", verdict.progress)
    if isinstance(verdict, Fail):
        left_out = ", ".join(rollout.planned.excluded_nodes)
        return Fail(f"the plan leaves {left_out} out now, and then: {verdict.cause}", verdict.remedy, verdict.evidence)
    return verdict


def _classes(ledger: Ledger, node: str) -> str:
    return ", ".join(dict.fromkeys(one.class_name for one in ledger.ended if one.node == node))
