"""Once a week, for every model store: read from the cluster what is in use, say what would go, then remove it."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, Param

from llm_rollout.manifests.collect_job import DEADLINE_SECONDS
from llm_rollout.spec import RolloutSpec
from rollout_airflow import specs
from rollout_airflow.collecting import CollectGarbage


def collect(dag: DAG, spec: RolloutSpec) -> None:
    """Two tasks for the store that a spec names: look, remove."""
    store, written = f"{spec.namespace}__{spec.store.claim}", spec.model_dump(mode="json")
    look = CollectGarbage(task_id=f"look__{store}", dag=dag, spec=written, looks_only=True)
    remove = CollectGarbage(task_id=f"remove__{store}", dag=dag, spec=written, looks_only=False)
    look >> remove


_stores = {(spec.namespace, spec.store.claim): spec for spec in reversed(specs.load()[0])}
if _stores:
    collect_garbage = DAG(
        "collect_garbage",
        description="Remove from the model stores what no model uses",
        doc_md=(
            "Keeps what LeaderWorkerSets, pods and records use, what is pinned (annotation `llm-rollout.dev/pinned` of "
            "a model's ConfigMap `llm-rollout-<name>`), the newest commits of each repository, and what is young."
        ),
        schedule="0 3 * * sun",
        catchup=False,
        max_active_runs=1,
        is_paused_upon_creation=False,
        default_args={"retries": 2, "retry_delay": timedelta(minutes=1)},
        params={
            "dry_run": Param(default=False, type="boolean", title="Dry run", description="Only say what would go"),
            "keep": Param(2, type="integer", minimum=0, title="Keep", description="Newest commits of each repository"),
            "grace_hours": Param(
                24,
                type="number",
                minimum=DEADLINE_SECONDS / 3600
                + 1,  # What is staged while the Job waits for its pod must be young to it.
                title="Grace",
                description="Hours for which stays what was published, staged again or written",
            ),
        },
        tags=["llm-rollout"],
    )
    for _, _spec in sorted(_stores.items()):
        collect(collect_garbage, _spec)
