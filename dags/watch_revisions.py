"""Scheduled upgrades: a new commit of a model's revision starts ``roll_out__<name>`` inside the model's window."""

from __future__ import annotations

from datetime import timedelta

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import DAG

from llm_rollout.spec import RolloutSpec
from rollout_airflow import specs
from rollout_airflow.watching import WatchRevision


def watch(dag: DAG, spec: RolloutSpec) -> None:
    """Two tasks for one model: is a rollout due, and start it."""
    name = spec.name.replace("-", "_")
    look = WatchRevision(task_id=f"watch__{name}", dag=dag, spec=spec.model_dump(mode="json"))
    start = TriggerDagRunOperator(
        task_id=f"start__{name}",
        dag=dag,
        trigger_dag_id=specs.dag_id("roll_out", spec),
        trigger_run_id=f"{{{{ ti.xcom_pull('{look.task_id}')['run_id'] }}}}",
        conf={"revision": f"{{{{ ti.xcom_pull('{look.task_id}')['commit'] }}}}"},
        skip_when_already_exists=True,
        fail_when_dag_is_paused=True,
    )
    look >> start


_watched = [spec for spec in specs.load()[0] if spec.upgrades]
if _watched:
    watch_revisions = DAG(
        "watch_revisions",
        description="Start a rollout for each new commit, inside the maintenance window",
        schedule="*/10 * * * *",
        catchup=False,
        max_active_runs=1,
        is_paused_upon_creation=False,  # A spec without upgrades is not watched: that is the switch.
        default_args={"retries": 2, "retry_delay": timedelta(seconds=30)},
        tags=["llm-rollout"],
    )
    for _spec in _watched:
        watch(watch_revisions, _spec)
