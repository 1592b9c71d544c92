"""Measure the fabric between idle nodes, outside of any rollout: a bad node is found before somebody needs it.

As a step it observes, decides and acts, and a task that is run again adopts what is there. It never disturbs a rollout:
while one runs for the model nothing is measured, and nodes that any model's rollout has planned are let go at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from llm_rollout import lease, measurements, record
from llm_rollout.measurements import Measurement
from llm_rollout.ports import Manifest, Ports
from llm_rollout.rollout import Rollout
from llm_rollout.spec import RolloutSpec
from llm_rollout.steps import capacity, fabric_inventory, fabric_report, jobs, measuring, pod_state
from llm_rollout.steps.fabric_inventory import Ground
from llm_rollout.steps.jobs import Finished, JobSeen
from llm_rollout.verdict import Act, Done, Fail, Verdict, Wait

MOST_NODES = 16
"""Fifteen rounds: some minutes a night. Nodes that were not measured for longest come first, so all have their turn."""
_PAIR = 2


@dataclass(frozen=True)
class Asked:
    """What one task is asked to do."""

    spec: RolloutSpec
    """Settings and thresholds, and which nodes are of use: those that could take a pod of its groups."""
    every: tuple[RolloutSpec, ...]
    """All specs: their rollouts are not to be disturbed."""
    run_id: str
    attempt: str

    def as_rollout(self) -> Rollout:
        """As what has a Job in common with rollouts knows it."""
        return Rollout(self.spec, self.run_id, self.attempt, "")


@dataclass(frozen=True)
class Seen:
    """The cluster's ground, what was measured, who rolls out, and this run's Job."""

    ground: Ground
    measured: tuple[Measurement, ...]
    attached: tuple[Manifest, ...]
    holder: str
    """The run that rolls this model out now, empty when none does."""
    reserved: frozenset[str]
    """Nodes that rollouts have planned and may be about to use."""
    job: JobSeen


def advance(asked: Asked, ports: Ports, now: Callable[[], float]) -> Done | Wait | Fail:
    """Observe, decide and act until the verdict is not Act.

    Raises:
        Permanent: Something that has to be known cannot be read.
        Transient: The cluster did not answer; calling again is right.
    """
    return jobs.until_settled(f"idle fabric of {asked.spec.name}", lambda: look(asked, ports, now), act, ports)


def look(asked: Asked, ports: Ports, now: Callable[[], float]) -> Verdict:
    """Observe and decide, and write nothing. Raises as ``advance`` does."""
    moment = now()
    return decide(asked, observe(asked, ports, moment), moment)


def observe(asked: Asked, ports: Ports, now: float) -> Seen:
    """Read nodes, pods, measurements, the leases and plans of all models, and this run's Job."""
    spec = asked.spec
    ground = fabric_inventory.observe(spec, ports, "")
    active = {one.name: found for one in asked.every if (found := _active(one, ports, now)) is not None}
    mine = [job["metadata"]["name"] for job in ground.jobs if jobs.run_of(job) == asked.run_id]
    return Seen(
        ground=ground,
        measured=measurements.load(ports.cluster, spec.namespace, spec.name),
        attached=fabric_inventory.attached(spec, ports),
        holder=active[spec.name][0] if spec.name in active else "",
        reserved=frozenset(node for _, nodes in active.values() for node in nodes),
        job=jobs.observe(asked.as_rollout(), ports, mine[0]) if mine else JobSeen(None),
    )


def decide(asked: Asked, seen: Seen, now: float) -> Verdict:
    """What was found by this try is told; else a rollout goes first; else the Job is followed, or started."""
    job = seen.job.job
    going = job is not None and pod_state.is_going(job)
    done = next((one for one in seen.measured if one.attempt == asked.attempt), None)
    if job is not None and not going and (done or _in_the_way(asked, seen, job)):
        return Act(f"remove Job {job['metadata']['name']}", measuring.Remove((job,)))
    if done is not None:
        return _told(asked, done)
    if seen.holder:
        return _skipped(f"run {seen.holder} rolls {asked.spec.name} out")
    if job is None:
        return _begun(asked, seen)
    outcome = jobs.settle(asked.as_rollout(), seen.job, (job,), now)
    return _noted(asked, outcome, now) if isinstance(outcome, Finished) else outcome


act = measuring.act


def _in_the_way(asked: Asked, seen: Seen, job: Manifest) -> bool:
    """A Job of an earlier try, or on nodes that a rollout is about to use."""
    of_this_try = jobs.attempt_of(job) == asked.attempt
    return not of_this_try or bool(seen.holder) or bool(measuring.nodes_of(job) & seen.reserved)


def _begun(asked: Asked, seen: Seen) -> Act | Done | Fail:
    nodes = _idle(asked.spec, seen)
    if len(nodes) < _PAIR:
        return _skipped(f"{len(nodes)} idle nodes could take a pod of {asked.spec.name}: a pair is needed")
    problems = list(fabric_inventory.problems(asked.spec, nodes, seen.ground, seen.attached))
    if problems:
        return Fail("; ".join(one.cause for one in problems), "; ".join(one.remedy for one in problems))
    boots = measuring.boots(seen.ground.nodes, nodes)
    digest = measuring.settings(asked.spec, seen.attached)
    made = measuring.manifests(asked.spec, boots, digest, asked.attempt)
    return Act(f"measure {', '.join(nodes)}", jobs.Create(made))


def _noted(asked: Asked, outcome: Finished, now: float) -> Act | Fail:
    one = measuring.measured(outcome.job, outcome.report, now) if outcome.report else None
    if one is None:
        return Fail("the Job ended without a report: its output is gone", "clear this task: it measures again")
    spec = asked.spec
    return Act(f"note {one.verdict} of {', '.join(one.nodes)}", measuring.Note(spec.namespace, spec.name, one))


def _told(asked: Asked, one: Measurement) -> Done | Fail:
    report = {"verdict": one.verdict, "transport": one.transport, "sentence": one.sentence, "bad": list(one.bad)}
    verdict = fabric_report.judge(asked.spec, report)
    evidence = {"nodes": sorted(one.nodes), **verdict.evidence}
    if isinstance(verdict, Fail):
        return Fail(verdict.cause, verdict.remedy, evidence)
    return Done(f"{', '.join(sorted(one.nodes))}: {verdict.summary}", evidence)


def _skipped(why: str) -> Done:
    return Done(f"nothing was measured: {why}", {"skipped": True})


def _idle(spec: RolloutSpec, seen: Seen) -> list[str]:
    """Whole free nodes that nobody has planned or measures, those that were not measured for longest first."""
    last = {node: one.at for one in seen.measured for node in one.nodes}
    busy = {pod_state.node(pod) for pod in seen.ground.probes}
    need = capacity.need_of(spec.server)
    idle = [
        room.node
        for room in seen.ground.rooms
        if not room.closed and not room.tenants and not room.lacks(need) and room.node not in seen.reserved | busy
    ]
    return sorted(idle, key=lambda node: (last.get(node, 0.0), len(node), node))[: _most_nodes(spec)]


def _most_nodes(spec: RolloutSpec) -> int:
    """As many as fit into half of the deadline: a pass is n - 1 rounds for an even n, each pair in both directions."""
    rounds = spec.fabric.deadline_seconds // 2 // (2 * spec.fabric.seconds_per_pair)
    return max(_PAIR, min(MOST_NODES, rounds))


def _active(spec: RolloutSpec, ports: Ports, now: float) -> tuple[str, tuple[str, ...]] | None:
    """The run that holds a model's lease and has not ended, with the nodes that it planned."""
    held = lease.read(ports.cluster, spec.namespace, spec.name)
    if not held.holder or held.expires <= now:
        return None
    found = record.load(ports.cluster, spec.namespace, spec.name)
    entry = found.run(held.holder)
    if held.holder in found.ended_runs():
        return None
    return held.holder, entry.plan.nodes if entry and entry.plan else ()
