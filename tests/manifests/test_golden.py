"""Rendered manifests against files under version control.

After an intended change run ``make golden`` (``UPDATE_GOLDEN=1``) and read the difference before committing it.
"""

import os
from pathlib import Path

import pytest
import yaml

from llm_rollout.manifests.autoscaler import autoscaler
from llm_rollout.manifests.canary_job import canary_job
from llm_rollout.manifests.fabric_job import fabric_job
from llm_rollout.manifests.leader_worker_set import leader_worker_set
from llm_rollout.manifests.pod_monitor import pod_monitor
from llm_rollout.manifests.service import service
from llm_rollout.manifests.stage_job import stage_job

GOLDEN = Path(__file__).parent / "golden"
ATTEMPT = "manual__2026-11-24/1"
RUN = "manual__2026-11-24"
SCALED = {"autoscaling": {"min_groups": 1, "max_groups": 4}}
ONE_NODE = {"server": {"nodes_per_group": 1, "pipeline_parallel": 1}}
NO_RDMA = {"server": {"network": {"rdma_resource": None, "attachments": []}}}
RAY = {"server": {"executor": "ray"}}
OWN_TASKS = {"canary": {"tasks": "/models/tasks/support.jsonl"}}
FIRST = {"stable_lws": None, "stable_revision_id": None}

BUILDERS = {
    "leader_worker_set": lambda spec, plan: [leader_worker_set(spec, plan)],
    "service": lambda spec, plan: [service(spec, plan.revision_id)],
    "service_before_first_switch": lambda spec, _: [service(spec, None)],
    "stage_job": lambda spec, plan: [stage_job(spec, plan.commit, ATTEMPT)],
    "fabric_job": lambda spec, plan: fabric_job(spec, plan.nodes, ATTEMPT),
    "canary_job": lambda spec, plan: [canary_job(spec, plan, RUN, ATTEMPT)],
    "autoscaler": lambda spec, plan: [autoscaler(spec, plan.lws)],
    "pod_monitor": lambda spec, _: [pod_monitor(spec)],
}

CASES = [
    pytest.param(("leader_worker_set", {}, {}), id="leader_worker_set"),
    pytest.param(("leader_worker_set", RAY, {}), id="leader_worker_set_ray"),
    pytest.param(("leader_worker_set", ONE_NODE, {}), id="leader_worker_set_one_node"),
    pytest.param(("leader_worker_set", SCALED, {}), id="leader_worker_set_scaled"),
    pytest.param(("leader_worker_set", NO_RDMA, {}), id="leader_worker_set_no_rdma"),
    pytest.param(("service", {}, {}), id="service"),
    pytest.param(("service_before_first_switch", {}, {}), id="service_before_first_switch"),
    pytest.param(("stage_job", {}, {}), id="stage_job"),
    pytest.param(("fabric_job", {}, {}), id="fabric_job"),
    pytest.param(("canary_job", {}, {}), id="canary_job"),
    pytest.param(("canary_job", OWN_TASKS, FIRST), id="canary_job_first"),
    pytest.param(("autoscaler", SCALED, {}), id="autoscaler"),
    pytest.param(("pod_monitor", {}, {}), id="pod_monitor"),
]


@pytest.mark.parametrize("case", CASES)
def test_manifests_are_the_golden_ones(case, make_spec, make_plan, request):
    builder, spec_changes, plan_changes = case
    spec = make_spec(spec_changes)
    manifests = BUILDERS[builder](spec, make_plan(spec, **plan_changes))
    rendered = yaml.safe_dump_all(manifests, sort_keys=False, width=120)
    golden = GOLDEN / f"{request.node.callspec.id}.yaml"
    if os.environ.get("UPDATE_GOLDEN") == "1":
        golden.write_text(rendered)

    assert rendered == golden.read_text()


def test_every_golden_file_belongs_to_a_case():
    assert {path.stem for path in GOLDEN.glob("*.yaml")} == {case.id for case in CASES}
