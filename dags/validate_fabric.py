"""Every night, for every model: measure the fabric between idle nodes, to know a bad one before it is needed."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, CronTriggerTimetable

from rollout_airflow import specs
from rollout_airflow.validating import ValidateFabric

_specs = [spec for spec in specs.load()[0] if spec.server.nodes_per_group > 1]
if _specs:
    validate_fabric = DAG(
        "validate_fabric",
        description="Measure the fabric between idle nodes",
        doc_md=(
            "Measures nodes whose GPUs are free and that no rollout has planned, those that were not measured for "
            "longest first. What it finds stands in the ConfigMap `llm-rollout-<name>.fabric`: a rollout of the next "
            "hours (`fabric.cache_hours`) need not measure the same nodes again. It gives way to rollouts."
        ),
        # Without a delta, Airflow makes up for a night that ended up to 2.4 hours before it was started.
        schedule=CronTriggerTimetable("0 2 * * *", timezone="UTC", run_immediately=timedelta(0)),
        catchup=False,
        max_active_runs=1,
        max_active_tasks=1,  # Models that could use the same nodes take turns.
        is_paused_upon_creation=False,
        default_args={"retries": 2, "retry_delay": timedelta(minutes=1)},
        tags=["llm-rollout"],
    )
    for _spec in _specs:
        ValidateFabric(
            task_id=f"measure__{_spec.name.replace('-', '_')}", dag=validate_fabric, spec=_spec.model_dump(mode="json")
        )
