from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import timezone
from airflow.serialization.decoders import decode_timetable
from airflow.serialization.encoders import encode_timetable
from airflow.timetables import trigger
from airflow.timetables.base import TimeRestriction

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def specs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "specs"
    shutil.copytree(ROOT / "include" / "rollouts", folder)
    monkeypatch.setenv("LLM_ROLLOUT_SPECS", str(folder))
    return folder


def bag() -> DagBag:
    return DagBag(ROOT / "dags" / "validate_fabric.py")


def test_each_model_of_several_nodes_has_a_task_and_they_take_turns():
    dag = bag().dags["validate_fabric"]

    assert {task.task_id for task in dag.tasks} == {"measure__llama_405b", "measure__tiny_chat"}
    assert [task.upstream_task_ids for task in dag.tasks] == [set(), set()]
    assert (dag.catchup, dag.max_active_runs, dag.max_active_tasks) == (False, 1, 1)
    assert dag.schedule.expression == "0 2 * * *"


@pytest.mark.parametrize("hour", [2, 3, 23])
def test_an_airflow_that_is_started_makes_up_for_no_night(hour: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(trigger, "utcnow", lambda: timezone.datetime(2026, 11, 25, hour, 30))
    timetable = decode_timetable(encode_timetable(bag().dags["validate_fabric"].schedule))

    first = timetable.next_dagrun_info(
        last_automated_data_interval=None, restriction=TimeRestriction(None, None, catchup=False)
    )

    assert first.run_after == timezone.datetime(2026, 11, 26, 2)


def test_models_of_one_node_have_no_fabric(specs: Path):
    for path in specs.iterdir():
        spec = yaml.safe_load(path.read_text())
        spec["server"] |= {"nodes_per_group": 1, "pipeline_parallel": 1}
        path.write_text(yaml.safe_dump(spec))

    assert bag().dags == {}


def test_a_broken_spec_does_not_take_it_away(specs: Path):
    spec = yaml.safe_load((specs / "tiny-chat.yaml").read_text())
    (specs / "tiny-chat.yaml").write_text(yaml.safe_dump(spec | {"groups": -3}))
    found = bag()

    assert found.import_errors == {}
    assert [task.task_id for task in found.dags["validate_fabric"].tasks] == ["measure__llama_405b"]
