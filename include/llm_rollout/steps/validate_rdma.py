"""The fabric between the chosen nodes is fit for this model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from llm_rollout import clock, measurements, record
from llm_rollout.fabric.lint import lint
from llm_rollout.manifests.findings import Finding
from llm_rollout.manifests.leader_worker_set import leader_worker_set
from llm_rollout.measurements import Measurement
from llm_rollout.ports import Manifest, Ports
from llm_rollout.record import Record
from llm_rollout.rollout import Rollout, RolloutPlan
from llm_rollout.steps import capacity, fabric_inventory, fabric_report, jobs, measuring, pod_state
from llm_rollout.steps.fabric_inventory import Ground
from llm_rollout.steps.jobs import Finished, JobSeen
from llm_rollout.verdict import Act, Done, Fail, Verdict, Wait

_NOTHING_READ = Ground(())


@dataclass(frozen=True)
class Seen:
    """The settings as they would be applied, what was measured before, the Job that measures now."""

    findings: tuple[Finding, ...]
    job: JobSeen
    attached: tuple[Manifest, ...] = ()
    measured: tuple[Measurement, ...] = ()
    ground: Ground = _NOTHING_READ
    """Empty while a Job runs: only what begins, or has to go on elsewhere, needs to know what the cluster offers."""

    def boots(self, nodes: Iterable[str]) -> dict[str, str]:
        """The nodes as they are now."""
        return measuring.boots(self.ground.nodes, nodes)


@dataclass(frozen=True)
class Exclude:
    """A plan without a node that was found unfit, to be put into the record."""

    rollout: Rollout
    plan: RolloutPlan


def observe(rollout: Rollout, ports: Ports) -> Seen:
    """Lint the rendered manifests with the networks that they attach, and read the Job."""
    spec, plan = rollout.spec, rollout.planned
    attached = fabric_inventory.attached(spec, ports)
    measure = measuring.manifests(spec, dict.fromkeys(plan.nodes, ""), "", rollout.attempt)
    findings = tuple(lint([leader_worker_set(spec, plan), *measure, *attached]))
    job = jobs.observe(rollout, ports, measure[-1]["metadata"]["name"])
    if job.job is not None and not measuring.has_ended(job.job):
        return Seen(findings, job, attached)
    ground = fabric_inventory.observe(spec, ports, plan.revision_id)
    return Seen(findings, job, attached, measurements.load(ports.cluster, spec.namespace, spec.name), ground)


def decide(rollout: Rollout, seen: Seen, now: float) -> Verdict:
    """Settings first: a wrong one costs seconds to find here and an hour on the nodes. Then what was measured."""
    spec, nodes = rollout.spec, rollout.planned.nodes
    errors = [finding for finding in seen.findings if finding.severity == "error"]
    if errors:
        return _bad_settings(errors)
    if spec.server.nodes_per_group == 1:
        return Done("a group is one node: there is no fabric between nodes to validate", {"nodes": list(nodes)})
    digest = measuring.settings(spec, seen.attached)
    wanted = measuring.manifests(spec, seen.boots(nodes), digest, rollout.attempt)
    outcome = jobs.settle(rollout, seen.job, wanted, now)
    if isinstance(outcome, Wait):
        return _overdue(rollout, seen.job.job or {}, outcome, now) or outcome
    if isinstance(outcome, Fail):
        return outcome
    verdict = _concluded(rollout, seen, outcome, now) if isinstance(outcome, Finished) else outcome
    if isinstance(verdict, Act) and isinstance(verdict.plan, jobs.Create | jobs.Delete):
        return _adopted(rollout, seen, digest, now) or _obstacle(rollout, seen, wanted) or verdict
    return verdict


def act(plan: object, ports: Ports) -> None:
    """Carry out what was decided: a Job, a note, a plan without an unfit node."""
    if not isinstance(plan, Exclude):
        measuring.act(plan, ports)
        return
    run, changed = plan.rollout, plan.plan

    def planned(found: Record) -> Record:
        return found.with_plan(run.run_id, changed)

    record.update(ports.cluster, run.spec.namespace, run.spec.name, planned)


def _concluded(rollout: Rollout, seen: Seen, outcome: Finished, now: float) -> Verdict:
    """Noted first. It counts in its own run only, and a bad one only in its own try: cables get repaired."""
    spec = rollout.spec
    one = measuring.measured(outcome.job, outcome.report, now) if outcome.report else None
    if one is not None and one.job not in {known.job for known in seen.measured}:
        return Act(f"note {one.verdict} of {', '.join(one.nodes)}", measuring.Note(spec.namespace, spec.name, one))
    verdict = fabric_report.judge(spec, outcome.report)
    if not outcome.this_run or (not outcome.this_try and isinstance(verdict, Fail)):
        return jobs.replace(outcome.job, "measured in an earlier try")
    now_booted = seen.boots(one.nodes) if one else {}
    if restarted := [node for node, boot in now_booted.items() if one and boot not in ("", one.nodes[node])]:
        return jobs.replace(outcome.job, f"measured before {', '.join(restarted)} started again")
    if isinstance(verdict, Done):
        return _with_excluded(rollout, verdict)
    return _elsewhere(rollout, seen, outcome.report, verdict)


def _adopted(rollout: Rollout, seen: Seen, digest: str, now: float) -> Done | None:
    """A PASS of the same nodes and settings that is young enough."""
    spec, boots = rollout.spec, seen.boots(rollout.planned.nodes)
    found = measurements.valid_pass(seen.measured, boots, digest, spec.fabric.cache_hours, now)
    if found is None or found.transport not in spec.fabric.accept_transports:
        return None
    age = f"{(now - found.at) / 3600:.1f} hours ago by {found.attempt.rpartition('/')[0]}"
    return _with_excluded(
        rollout,
        Done(
            f"{found.sentence} (measured {age}; nodes and settings are the same)",
            {"verdict": found.verdict, "transport": found.transport, "measured_at": clock.rfc3339(found.at)},
        ),
    )


def _obstacle(rollout: Rollout, seen: Seen, wanted: Sequence[Manifest]) -> Verdict | None:
    """What would keep the measurement from running, or would spoil it."""
    spec, nodes, ground = rollout.spec, rollout.planned.nodes, seen.ground
    problems = list(fabric_inventory.problems(spec, nodes, ground, seen.attached))
    unread = fabric_inventory.unread(spec, ground, seen.attached)
    if problems:
        return Fail(
            "; ".join(problem.cause for problem in problems),
            "; ".join(dict.fromkeys(problem.remedy for problem in problems)) + "; then clear this task",
            {"nodes": list(nodes), "not_read": unread},
        )
    name = wanted[-1]["metadata"]["name"]
    busy = fabric_inventory.busy(nodes, ground, name)
    if busy:
        return Wait(f"another measurement runs on these nodes: {', '.join(busy)}", {"not_read": unread})
    old = fabric_inventory.left_over(ground, rollout.run_id, name)
    return Act(f"remove {len(old)} Jobs of earlier measurements", measuring.Remove(old)) if old else None


def _elsewhere(rollout: Rollout, seen: Seen, report: Mapping[str, Any], verdict: Fail) -> Act | Fail:
    """Another node in the place of the one that is unfit, once: a second one means that something else is wrong."""
    plan, spec = rollout.planned, rollout.spec
    node = fabric_report.unfit_node(spec, report)
    if node not in plan.nodes or not spec.fabric.replan:
        return verdict
    if plan.excluded_nodes:
        before = "; ".join(f"{name} was left out before: {why}" for name, why in plan.excluded_nodes.items())
        return replace(verdict, cause=f"{verdict.cause}; {before}")
    excluded = {node: str(report["sentence"])}
    rooms = capacity.without(seen.ground.rooms, excluded)
    rest = [other for other in plan.nodes if other != node]
    nodes = capacity.choose(rooms, capacity.need_of(spec.server), len(plan.nodes), rest)
    if len(nodes) < len(plan.nodes):
        return replace(verdict, cause=f"{verdict.cause}; no other node is free to take the place of {node}")
    changed = plan.model_copy(update={"nodes": tuple(nodes), "excluded_nodes": excluded})
    return Act(f"leave {node} out and plan on {', '.join(nodes)}", Exclude(rollout, changed))


def _with_excluded(rollout: Rollout, verdict: Done) -> Done:
    """A rollout that goes on says which node it goes on without."""
    excluded = rollout.planned.excluded_nodes
    if not excluded:
        return verdict
    told = "; ".join(f"{node} is left out, repair it: {why}" for node, why in excluded.items())
    return Done(f"{verdict.summary}; {told}", {**verdict.evidence, "excluded_nodes": dict(excluded)})


def _overdue(rollout: Rollout, job: Manifest, waiting: Wait, now: float) -> Fail | None:
    """One measurement gets the spec's deadline; the step waits longer, since it may measure twice."""
    deadline = rollout.spec.fabric.deadline_seconds
    if (
        not job
        or pod_state.is_going(job)
        or now - (clock.seconds(job["metadata"]["creationTimestamp"]) or 0.0) <= deadline
    ):
        return None
    return Fail(
        f"measured for {deadline} s, and still: {waiting.reason}",
        "look at the evidence, or raise fabric.deadline_seconds; then clear this task: it measures again",
        waiting.progress,
    )


def _bad_settings(findings: Sequence[Finding]) -> Fail:
    return Fail(
        "network settings: "
        + "; ".join(f"[{one.code}] {one.field_path} {one.value}: {one.message}" for one in findings),
        "; ".join(f"[{one.code}] {one.fix}" for one in findings),
        {"findings": [str(one) for one in findings]},
    )
