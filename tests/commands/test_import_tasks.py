import json

import pytest

from llm_rollout.canary import task_set
from llm_rollout.cli import main

SAMPLE = {"target": "2", "arguments": [["1+1?", {"until": ["\n"]}]]}


@pytest.fixture
def imported(tmp_path, capsys):
    """Run the command on files of these texts; exit code, output, messages."""

    def run(source, *texts):
        files = []
        for number, text in enumerate(texts):
            files.append(tmp_path / f"{number}.jsonl")
            files[-1].write_text(text)
        code = main(["import-tasks", source, *map(str, files)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_the_output_is_a_task_set(imported):
    code, out, told = imported("lm-eval", json.dumps(SAMPLE), json.dumps(SAMPLE))

    (task,) = task_set.parse(out, "out")
    assert (code, task.answer, task.stop) == (0, "2", ("\n",))
    assert told == "1 tasks, 1 with an answer; 1 repeated questions left out\n"


def test_traffic_says_what_was_taken_out_and_what_is_missing(imported):
    code, out, told = imported("traffic", json.dumps({"prompt": "I am ana@example.org"}))

    assert code == 0
    assert json.loads(out)["prompt"] == "I am [email]"
    assert "taken out: 1 email" in told
    assert "add tasks with answers" in told


def test_nothing_is_printed_unless_all_files_are_read(imported):
    code, out, told = imported("lm-eval", json.dumps(SAMPLE), "{}")

    assert (code, out) == (3, "")
    assert "1.jsonl, line 1: target: no value" in told


def test_a_file_that_is_not_there_is_named(capsys):
    assert main(["import-tasks", "guidellm", "/nowhere.json"]) == 3
    assert "/nowhere.json: cannot be read" in capsys.readouterr().err
