"""One DAG for each model, ``roll_out__<name>``: the pipeline from a revision to a Service that serves it."""

from __future__ import annotations

from datetime import timedelta
from functools import partial

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import DAG, Param, get_parsing_context

from llm_rollout.spec import Approval, RolloutSpec
from rollout_airflow import specs
from rollout_airflow.operators import RollBack, RolloutStep

RETRYING = {
    # Only what another try can help is tried again; see RolloutStep.
    "retries": 4,
    "retry_delay": timedelta(seconds=5),
    "retry_exponential_backoff": 2.0,
    "max_retry_delay": timedelta(minutes=2),
}


def roll_out(spec: RolloutSpec) -> DAG:
    """The pipeline of one model. Everything a task needs beyond the run's parameters is in its ``spec``."""
    dag = DAG(
        specs.dag_id("roll_out", spec),
        description=f"Roll {spec.model.repo} out behind the Service {spec.service.name}",
        doc_md=_documentation(spec),
        schedule=None,
        max_active_runs=1,
        is_paused_upon_creation=False,  # It only runs when somebody starts it; a paused one would be a trap at night.
        default_args=RETRYING,
        params=_params(spec),
        tags=["llm-rollout", f"model:{spec.name}"],
    )
    step = partial(RolloutStep, dag=dag, spec=spec.model_dump(mode="json"))
    plan_rollout = step(task_id="plan_rollout")
    stage_weights = step(task_id="stage_weights")
    validate_rdma = step(task_id="validate_rdma")
    create_group = step(task_id="create_group")
    await_cold_start = step(task_id="await_cold_start")
    smoke_test = step(task_id="smoke_test")
    evaluate_canary = step(task_id="evaluate_canary")
    approve = [_approve(dag, spec, spec.approval)] if spec.approval else []
    switch_service = step(task_id="switch_service")
    watch_live = step(task_id="watch_live")
    retire_previous = step(task_id="retire_previous")

    plan_rollout >> [stage_weights, validate_rdma] >> create_group >> await_cold_start >> smoke_test >> evaluate_canary
    evaluate_canary >> [*approve, switch_service]
    approve >> switch_service
    switch_service >> watch_live >> retire_previous

    before = list(dag.tasks)
    roll_back = RollBack(task_id="roll_back", dag=dag, spec=step.keywords["spec"], trigger_rule="all_done")
    conclude = step(task_id="conclude", trigger_rule="all_done")
    before >> roll_back >> conclude
    return dag


def _approve(dag: DAG, spec: RolloutSpec, approval: Approval) -> ApprovalOperator:
    return ApprovalOperator(
        task_id="approve",
        dag=dag,
        subject=f"Switch {spec.service.name} to the new revision of {spec.name}?",
        body="{{ ti.xcom_pull('plan_rollout')['summary'] }}\n\n{{ ti.xcom_pull('evaluate_canary')['summary'] }}",
        defaults="Reject",
        response_timeout=timedelta(seconds=approval.response_timeout_seconds),
        assigned_users=[{"id": user, "name": user} for user in approval.assigned_users] or None,
        fail_on_reject=True,  # Else Airflow skips roll_back together with the switch.
        retries=0,
    )


def _params(spec: RolloutSpec) -> dict[str, Param]:
    return {
        "revision": Param(
            spec.model.revision,
            type="string",
            # The word stands for the return that roll_back__<name> makes.
            pattern=r"^(?!previous$)[\w./-]+$",
            title="Revision",
            description_md=f"Branch, tag or commit of `{spec.model.repo}`; it is resolved to a commit once.",
        ),
        "dry_run": Param(
            False,
            type="boolean",
            title="Dry run",
            description_md="Print the plan and end: GPUs, bytes to fetch, expected minutes, the way back.",
        ),
    }


def _documentation(spec: RolloutSpec) -> str:
    shape = f"{spec.groups} x {spec.server.nodes_per_group} nodes x {spec.server.gpus_per_node} GPUs"
    return (
        f"Rolls `{spec.model.repo}` out in namespace `{spec.namespace}` behind the Service `{spec.service.name}` "
        f"({shape}).\n\n"
        "A red task says in its last log lines what failed, where, and what to do. **Clearing it goes on where it "
        "stands**: what is finished is adopted and nothing is created twice.\n\n"
        f"`{specs.dag_id('roll_back', spec)}` returns to the previous revision."
    )


for _spec in specs.load()[0]:
    if get_parsing_context().dag_id in (None, specs.dag_id("roll_out", _spec)):
        globals()[specs.dag_id("roll_out", _spec)] = roll_out(_spec)
