import pytest

from llm_rollout.canary import task_files
from llm_rollout.errors import Permanent

TASK = '{"id": "a", "prompt": "2+2=", "answer": "4"}\n'
LOAD = '{"id": "b", "prompt": "Hello"}\n'


def test_bundled_sets_are_found_by_name():
    assert {name: len(task_files.load(name)) for name in ("arithmetic", "starter")} == {
        "arithmetic": 100,
        "starter": 146,
    }


def test_a_config_map_is_read_where_the_job_mounts_it(tmp_path, monkeypatch):
    monkeypatch.setattr(task_files, "CONFIG_MAP_FOLDER", str(tmp_path))
    (tmp_path / "own.jsonl").write_text(TASK + LOAD)

    assert [task.id for task in task_files.load("configmap:questions/own.jsonl")] == ["a", "b"]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("poetry", None, "'poetry' is not bundled: write one of arithmetic, starter"),
        ("configmap:questions/own.jsonl", None, "configmap:questions/own.jsonl cannot be read"),
        ("own.jsonl", LOAD, "no task with an answer"),
    ],
)
def test_what_cannot_be_asked_is_named(tmp_path, monkeypatch, name, text, words):
    monkeypatch.chdir(tmp_path)
    if text:
        (tmp_path / name).write_text(text)

    with pytest.raises(Permanent, match=words):
        task_files.load(name)
