from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml
from airflow.dag_processing.dagbag import DagBag
from airflow.serialization.serialized_objects import DagSerialization

from llm_rollout.steps import PIPELINE, RECOVERY

ROOT = Path(__file__).resolve().parents[2]
SPECS = ROOT / "include" / "rollouts"


@pytest.fixture(autouse=True)
def specs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "specs"
    shutil.copytree(SPECS, folder)
    monkeypatch.setenv("LLM_ROLLOUT_SPECS", str(folder))
    return folder


def dags() -> DagBag:
    return DagBag(ROOT / "dags")


def rewrite(path: Path, **changes: object) -> None:
    spec = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump(spec | changes))


def test_every_spec_has_a_dag_to_roll_out_and_one_to_roll_back(specs: Path):
    bag = dags()
    names = [path.stem.replace("-", "_") for path in specs.iterdir()]
    assert bag.import_errors == {}
    assert {f"{kind}__{name}" for kind in ("roll_out", "roll_back") for name in names} <= set(bag.dags)


def test_tasks_are_the_steps_in_their_order():
    dag = dags().dags["roll_out__tiny_chat"]
    assert [task.task_id for task in dag.topological_sort() if task.task_id != "approve"] == [*PIPELINE, *RECOVERY]


def test_staging_and_fabric_run_side_by_side_and_all_else_in_a_row():
    dag = dags().dags["roll_out__tiny_chat"]
    behind = {task.task_id: task.upstream_task_ids for task in dag.tasks}
    assert behind["stage_weights"] == behind["validate_rdma"] == {"plan_rollout"}
    assert behind["create_group"] == {"stage_weights", "validate_rdma"}
    row = PIPELINE[3:]
    assert [behind[step] for step in row[1:]] == [{step} for step in row[:-1]]


def test_roll_back_sees_how_every_step_ended_and_conclude_always_speaks_last():
    dag = dags().dags["roll_out__llama_405b"]
    roll_back, conclude = dag.get_task("roll_back"), dag.get_task("conclude")
    assert roll_back.upstream_task_ids == {*PIPELINE, "approve"}
    assert roll_back.trigger_rule == conclude.trigger_rule == "all_done"
    assert [task.task_id for task in dag.leaves] == ["conclude"]


def test_a_person_is_asked_only_where_the_spec_says_so(specs: Path):
    rewrite(specs / "tiny-chat.yaml", approval={"assigned_users": ["ada"], "response_timeout_seconds": 600})
    bag = dags()
    approve = bag.dags["roll_out__tiny_chat"].get_task("approve")
    assert approve.upstream_task_ids == {"evaluate_canary"}
    assert "approve" in bag.dags["roll_out__tiny_chat"].get_task("switch_service").upstream_task_ids
    assert (approve.defaults, approve.response_timeout.total_seconds()) == (["Reject"], 600)
    assert [user["id"] for user in approve.assigned_users] == ["ada"]


def test_a_broken_spec_is_named_with_file_field_and_value_and_takes_nobody_down(specs: Path):
    rewrite(specs / "tiny-chat.yaml", groups=-3)
    bag = dags()
    assert "roll_out__tiny_chat" not in bag.dags
    assert {"roll_out__llama_405b", "roll_back__llama_405b"} <= set(bag.dags)
    [(file, error)] = bag.import_errors.items()
    assert Path(file).name == "report_broken_specs.py"
    assert all(word in error for word in (str(specs / "tiny-chat.yaml"), "groups", "-3"))


def test_two_specs_of_one_name_are_an_error_and_the_first_keeps_it(specs: Path):
    shutil.copy(specs / "tiny-chat.yaml", specs / "tiny-chat-again.yaml")
    bag = dags()
    assert "roll_out__tiny_chat" in bag.dags
    assert "tiny-chat" in next(iter(bag.import_errors.values()))


def test_parameters_are_typed():
    params = dags().dags["roll_out__tiny_chat"].params
    assert params.get_param("revision").resolve("0a1b2c") == "0a1b2c"
    for name, wrong in (("revision", "two words"), ("revision", "previous"), ("dry_run", "perhaps")):
        with pytest.raises(ValueError, match=str(wrong)):
            params.get_param(name).resolve(wrong)


def test_only_models_that_ask_for_upgrades_are_watched(specs: Path):
    watched = dags().dags["watch_revisions"]
    assert {task.task_id for task in watched.tasks} == {"watch__llama_405b", "start__llama_405b"}
    rewrite(specs / "llama-405b.yaml", upgrades=None)
    assert "watch_revisions" not in dags().dags


def test_parsing_twice_gives_the_same_dags():
    first, second = ({name: DagSerialization.to_dict(dag)["dag"] for name, dag in dags().dags.items()} for _ in "12")
    assert first == second


def test_one_rollout_of_a_model_at_a_time_and_never_paused_by_default():
    for name, dag in dags().dags.items():
        assert (name, dag.max_active_runs, dag.is_paused_upon_creation) == (name, 1, False)
