"""The fabric between the chosen nodes is fit for this model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llm_rollout import kinds
from llm_rollout.fabric.lint import lint
from llm_rollout.manifests.fabric_job import fabric_job
from llm_rollout.manifests.findings import Finding
from llm_rollout.manifests.leader_worker_set import leader_worker_set
from llm_rollout.ports import Ports
from llm_rollout.rollout import Rollout
from llm_rollout.steps import jobs
from llm_rollout.steps.jobs import Finished, JobSeen
from llm_rollout.verdict import Act, Done, Fail, Verdict

_MEASURE = "look at the evidence, repair what it names, and clear this task: it measures again"


@dataclass(frozen=True)
class Seen:
    """The settings as they would be applied, judged without measuring, and the Job that measures."""

    findings: tuple[Finding, ...]
    job: JobSeen


def observe(rollout: Rollout, ports: Ports) -> Seen:
    """Lint the rendered manifests with the networks that they attach, and read the Job."""
    spec, plan = rollout.spec, rollout.planned
    measure = fabric_job(spec, plan.nodes, rollout.attempt)
    wanted = spec.server.network.attachments
    networks = ports.cluster.list(kinds.NETWORK_ATTACHMENT, spec.namespace) if wanted else ()
    attached = [one for one in networks if one["metadata"]["name"] in wanted]
    findings = lint([leader_worker_set(spec, plan), *measure, *attached])
    return Seen(tuple(findings), jobs.observe(rollout, ports, measure[-1]["metadata"]["name"]))


def decide(rollout: Rollout, seen: Seen, now: float) -> Verdict:
    """Settings first: a wrong one costs seconds to find here and an hour on the nodes. Then what was measured."""
    spec, nodes = rollout.spec, rollout.planned.nodes
    errors = [finding for finding in seen.findings if finding.severity == "error"]
    if errors:
        return _bad_settings(errors)
    if spec.server.nodes_per_group == 1:
        return Done("a group is one node: there is no fabric between nodes to validate", {"nodes": list(nodes)})
    outcome = jobs.settle(rollout, seen.job, tuple(fabric_job(spec, nodes, rollout.attempt)), now)
    return _judge(rollout, outcome) if isinstance(outcome, Finished) else outcome


act = jobs.act


def _judge(rollout: Rollout, outcome: Finished) -> Verdict:
    """A measurement counts in its own run only, and a bad one only in its own try: cables get repaired."""
    verdict = _of_report(rollout, outcome.report)
    outdated = not outcome.this_run or (not outcome.this_try and isinstance(verdict, Fail))
    return jobs.replace(outcome.job, "measured in an earlier try") if outdated else verdict


def _of_report(rollout: Rollout, report: Mapping[str, Any]) -> Act | Done | Fail:
    """The transport first: nothing measured over another one tells about RDMA. The sentence names the verdict."""
    fabric = rollout.spec.fabric
    if not report:
        return Fail("the Job ended without a report: its output is gone", "clear this task: it measures again")
    evidence, sentence, verdict = dict(report), report["sentence"], report["verdict"]
    if report["transport"] not in fabric.accept_transports:
        accepted = ", ".join(fabric.accept_transports)
        return Fail(
            f"measured over {report['transport']}, accepted is {accepted}: {sentence}",
            "make RDMA reach the pods (server.network), or name the transport in fabric.accept_transports",
            evidence,
        )
    if verdict == "PASS" or (verdict == "DEGRADED" and fabric.accept_degraded):
        return Done(sentence, evidence)
    remedies = {
        "DEGRADED": f"set fabric.accept_degraded: true to accept it, or {_MEASURE}",
        "INCONCLUSIVE": "nothing is known to be bad, but not all could be measured: " + _MEASURE,
    }
    return Fail(sentence, remedies.get(verdict, _MEASURE), evidence)


def _bad_settings(findings: Sequence[Finding]) -> Fail:
    return Fail(
        "network settings: "
        + "; ".join(f"[{one.code}] {one.field_path} {one.value}: {one.message}" for one in findings),
        "; ".join(f"[{one.code}] {one.fix}" for one in findings),
        {"findings": [str(one) for one in findings]},
    )
