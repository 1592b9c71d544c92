from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml
from airflow.dag_processing.dagbag import DagBag

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def specs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "specs"
    shutil.copytree(ROOT / "include" / "rollouts", folder)
    monkeypatch.setenv("LLM_ROLLOUT_SPECS", str(folder))
    return folder


def bag() -> DagBag:
    return DagBag(ROOT / "dags" / "collect_garbage.py")


def rewrite(path: Path, to: Path, **changes: object) -> None:
    to.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | changes))


def test_each_store_is_looked_at_before_anything_is_removed():
    dag = bag().dags["collect_garbage"]
    behind = {task.task_id: task.upstream_task_ids for task in dag.tasks}
    assert behind == {
        "look__ai-inference__model-store": set(),
        "remove__ai-inference__model-store": {"look__ai-inference__model-store"},
        "look__default__model-store": set(),
        "remove__default__model-store": {"look__default__model-store"},
    }
    assert {task.task_id.split("__")[0]: task.looks_only for task in dag.tasks} == {"look": True, "remove": False}


def test_models_that_share_a_store_share_its_tasks(specs: Path):
    rewrite(specs / "tiny-chat.yaml", specs / "other.yaml", name="other", service={"name": "other-api"})
    assert len(bag().dags["collect_garbage"].tasks) == 4
    rewrite(specs / "other.yaml", specs / "other.yaml", store={"claim": "other-store"})
    assert len(bag().dags["collect_garbage"].tasks) == 6


def test_a_broken_spec_does_not_take_it_away(specs: Path):
    rewrite(specs / "tiny-chat.yaml", specs / "tiny-chat.yaml", groups=-3)
    found = bag()
    assert found.import_errors == {}
    assert len(found.dags["collect_garbage"].tasks) == 2


def test_without_specs_there_is_nothing_to_collect(specs: Path):
    for path in specs.iterdir():
        path.unlink()
    assert bag().dags == {}


def test_it_runs_weekly_one_at_a_time_and_parameters_are_typed():
    dag = bag().dags["collect_garbage"]
    assert dag.schedule == "0 3 * * sun"
    assert (dag.catchup, dag.max_active_runs) == (False, 1)
    assert {name: param.value for name, param in dag.params.items()} == {"dry_run": False, "keep": 2, "grace_hours": 24}
    for name, wrong in (("dry_run", "perhaps"), ("keep", -1), ("keep", 1.5), ("grace_hours", 6)):
        with pytest.raises(ValueError, match=str(wrong)):
            dag.params.get_param(name).resolve(wrong)
