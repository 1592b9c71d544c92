"""One DAG for each model, ``roll_back__<name>``: a person's way back to the previous revision."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, get_parsing_context

from llm_rollout.rollout import PREVIOUS
from llm_rollout.spec import RolloutSpec
from rollout_airflow import specs
from rollout_airflow.operators import RolloutStep


def roll_back(spec: RolloutSpec) -> DAG:
    """The way back of one model: traffic on the record's previous revision, created again where it is gone."""
    dag = DAG(
        specs.dag_id("roll_back", spec),
        description=f"Return the Service {spec.service.name} to the previous revision",
        doc_md=(
            f"Returns `{spec.service.name}` in namespace `{spec.namespace}` to the revision that served before. "
            "Groups that are gone are created again from the record, and traffic moves only when they serve."
        ),
        schedule=None,
        max_active_runs=1,
        is_paused_upon_creation=False,
        default_args={"retries": 4, "retry_delay": timedelta(seconds=5), "retry_exponential_backoff": 2.0},
        tags=["llm-rollout", f"model:{spec.name}"],
    )
    written = spec.model_dump(mode="json")
    back = RolloutStep(task_id="roll_back", dag=dag, spec=written, revision=PREVIOUS)
    conclude = RolloutStep(task_id="conclude", dag=dag, spec=written, revision=PREVIOUS, trigger_rule="all_done")
    back >> conclude
    return dag


for _spec in specs.load()[0]:
    if get_parsing_context().dag_id in (None, specs.dag_id("roll_back", _spec)):
        globals()[specs.dag_id("roll_back", _spec)] = roll_back(_spec)
