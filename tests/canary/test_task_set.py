import json
from importlib.resources import files

import pytest

from llm_rollout.canary import task_set
from llm_rollout.errors import Permanent
from tests.canary import starter_tasks

GOOD = {"id": "a", "prompt": "1+1=", "answer": "2"}


def line(**changes):
    return json.dumps({key: value for key, value in (GOOD | changes).items() if value is not None})


def test_the_bundled_set_is_read():
    text = files("llm_rollout").joinpath("canary", "tasks", "arithmetic.jsonl").read_text(encoding="utf-8")

    tasks = task_set.parse(text, "arithmetic")

    assert len(tasks) == 100
    assert tasks[1].right(" 1\n")
    assert not tasks[1].right("11")


def test_a_chat_has_no_stop_of_its_own():
    (task,) = task_set.parse(line(prompt=None, messages=[{"role": "user", "content": "1+1="}]), "own")

    assert (task.prompt, task.stop) == (None, ())


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        pytest.param("{", "own, line 2: is no JSON", id="cut"),
        pytest.param("[]", "own, line 2: is no JSON object", id="list"),
        pytest.param(line(prompt=None), "line 2: prompt: no value: write a text", id="no prompt"),
        pytest.param(line(prompt=3), "line 2: prompt: 3: write a text", id="number as prompt"),
        pytest.param(line(messages=[{"role": "user"}]), "line 2: prompt: ", id="both"),
        pytest.param(line(prompt=None, messages=["hi"]), r"line 2: messages: \['hi'\]", id="message as text"),
        pytest.param(line(prompt=None, messages=[]), "line 2: prompt: no value", id="no message"),
        pytest.param(line(answer=None, grader="exact"), "line 2: answer: no value", id="a grader and no answer"),
        pytest.param(
            line(answer="4 or 5", grader="numeric"), "line 2: answer: '4 or 5': write a number", id="no number"
        ),
        pytest.param(line(answer="nan", grader="numeric"), "line 2: answer: 'nan': write a number", id="not a number"),
        pytest.param(
            line(answer="AB", grader="multiple_choice"), "line 2: answer: 'AB': write one letter", id="letters"
        ),
        pytest.param(line(answer="(", grader="regex"), r"line 2: answer: '\(': write a regular expr", id="bad pattern"),
        pytest.param(
            line(answer="{", grader="json_schema"), "line 2: answer: '{': write a JSON schema", id="bad schema"
        ),
        pytest.param(
            line(answer={"$ref": "#"}, grader="json_schema"), "write a schema without", id="word of a schema not known"
        ),
        pytest.param(line(answer={"type": "object"}), "line 2: answer: {", id="object for another grader"),
        pytest.param(
            line(tolerance=0.1), "line 2: tolerance: 0.1: write 0 or more, with grader numeric", id="tolerance"
        ),
        pytest.param(line(tolerance=-1, grader="numeric"), "line 2: tolerance: -1", id="tolerance below 0"),
        pytest.param(line(answer=""), "line 2: answer: '': write a text that is not empty", id="empty answer"),
        pytest.param(line(id=7), "line 2: id: 7", id="number as id"),
        pytest.param(line(grader="vibes"), "line 2: grader: 'vibes': write one of exact", id="grader"),
        pytest.param(line(max_tokens=True), "line 2: max_tokens: True", id="true tokens"),
        pytest.param(line(max_tokens=0), "line 2: max_tokens: 0", id="no tokens"),
        pytest.param(line(stop="\n"), "line 2: stop: ", id="stop as text"),
        pytest.param(line(answr="2"), "line 2: answr: is no field", id="misspelt"),
        pytest.param(line(), "own: id: 'a' is there twice", id="twice"),
    ],
)
def test_a_bad_line_is_named_with_its_field(bad, words):
    with pytest.raises(Permanent, match=words):
        task_set.parse(f"{line()}\n{bad}\n", "own")


def test_each_grader_takes_its_own_answer():
    graders = {
        "numeric": ("3.5", "about 3.52"), "multiple_choice": ("B", "(B)"), "regex": ("^a+$", "aaa"),
        "json_schema": ({"type": "array"}, "[]"), "exact": ("a", " a"),
    }  # fmt: skip
    for grader, (answer, given) in graders.items():
        tolerance = {"tolerance": 0.05} if grader == "numeric" else {}
        (task,) = task_set.parse(line(answer=answer, grader=grader, **tolerance), "own")

        assert task.right(given), grader
        assert not task.right("wrong"), grader


def test_a_task_without_an_answer_is_load():
    tasks = task_set.parse(f"{line(answer=None)}\n{line(id='b')}", "own")

    assert tasks[0].right("anything") is None
    assert task_set.graded(tasks) == 1


def test_the_starter_set_is_what_its_generator_makes():
    text = files("llm_rollout").joinpath("canary", "tasks", "starter.jsonl").read_text(encoding="utf-8")
    tasks = task_set.parse(text, "starter")

    assert text == starter_tasks.text()
    assert len(tasks) == task_set.graded(tasks) == 146
    assert {task.grader for task in tasks} == {"exact", "numeric", "multiple_choice", "regex", "json_schema"}


def test_an_empty_set_is_refused():
    with pytest.raises(Permanent, match="holds no task"):
        task_set.parse("\n\n", "own")
