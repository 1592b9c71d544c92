import json
from importlib.resources import files

import pytest

from llm_rollout.canary import task_set
from llm_rollout.errors import Permanent

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
        pytest.param(line(answer=None), "line 2: answer: no value", id="no answer"),
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


def test_an_empty_set_is_refused():
    with pytest.raises(Permanent, match="holds no task"):
        task_set.parse("\n\n", "own")
