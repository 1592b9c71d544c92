import json

import pytest

from llm_rollout.canary import importing, task_set
from llm_rollout.errors import Permanent


def lines(*values):
    return "".join(f"{json.dumps(value)}\n" for value in values)


def generated(target, prompt="Q: 1+1?", **settings):
    return {"doc_id": 0, "target": target, "arguments": {"gen_args_0": {"arg_0": prompt, "arg_1": settings}}}


def choice(target, *continuations):
    return {"doc_id": 0, "target": target, "arguments": [["Which is a fruit?", each] for each in continuations]}


def read(reader, text):
    """The tasks as the canary reads them."""
    imported = reader(text, "file")
    return task_set.parse(lines(*imported.tasks), "imported"), imported


def test_generated_numbers_become_numeric_tasks():
    sample = generated("3 and 4 are 7\n#### 1,007", until=["Q:", ""], max_gen_toks=64)

    (task,), _ = read(importing.lm_eval, lines(sample))

    assert (task.prompt, task.answer, task.grader) == ("Q: 1+1?", "1007", "numeric")
    assert (task.max_tokens, task.stop) == (64, ("Q:",))
    assert task.right("so it is 1007.")


def test_one_text_among_the_targets_makes_all_of_them_exact():
    tasks, _ = read(importing.lm_eval, lines(generated("7", "a"), generated("seven", "b")))

    assert [task.grader for task in tasks] == ["exact", "exact"]


@pytest.mark.parametrize("target", [1, "1", "banana"])
def test_continuations_become_choices(target):
    (task,), _ = read(importing.lm_eval, lines(choice(target, " carrot", " banana")))

    assert task.prompt == "Which is a fruit?\nA. carrot\nB. banana\nAnswer with the letter alone.\nAnswer:"
    assert task.right(" B")
    assert not task.right(" A")


def test_a_question_counts_once():
    tasks, imported = read(importing.lm_eval, lines(generated("2"), generated("2"), generated("2", "other")))

    assert (len(tasks), imported.repeated) == (2, 1)


BODY = {"model": "m", "messages": [{"role": "user", "content": "Hello", "name": "ana"}], "max_tokens": 9}


@pytest.mark.parametrize(
    "request_",
    [
        {"prompt": "Hello"},
        {"request_args": {"prompt": "Hello"}},
        {"request_args": json.dumps({"body": BODY})},
        {"request_args": {"method": "POST", "body": BODY}},
    ],
)
def test_a_guidellm_report_gives_load(request_):
    report = {"benchmarks": [{"requests": {"successful": [request_], "errored": [{}]}}]}

    (task,), _ = read(importing.guidellm, json.dumps(report))

    assert task.answer is None
    assert "Hello" in (task.prompt or task.messages[0]["content"])
    assert all(message.keys() == {"role", "content"} for message in task.messages)


def test_traffic_is_redacted_and_keeps_nothing_but_the_question():
    secret = BODY | {"messages": [{"role": "user", "content": "I am ana@example.org"}], "user": "ana"}
    parts = BODY | {"messages": [{"role": "user", "content": [{"type": "text", "text": "from 10.0.0.1"}]}]}

    _, imported = read(importing.traffic, lines(secret, parts, {"prompt": "call +49 30 1234567", "stop": "X"}))

    text = lines(*imported.tasks)
    assert not any(leak in text for leak in ("example.org", "ana", "10.0.0.1", "1234567"))
    assert imported.redacted == {"email": 1, "ip": 1, "phone": 1}


def test_what_differs_only_in_what_is_redacted_counts_once():
    bodies = [{"prompt": f"mail {name}@example.org"} for name in ("ana", "ben")]

    assert read(importing.traffic, lines(*bodies))[1].repeated == 1


@pytest.mark.parametrize(
    ("reader", "text", "words"),
    [
        (importing.lm_eval, "{}\n", r"file, line 1: target: no value"),
        (importing.lm_eval, "\n{\n", r"file, line 2: is no JSON"),
        (importing.lm_eval, "[]\n", r"file, line 1: is no JSON object"),
        (importing.lm_eval, lines({"target": 1}), r"line 1: arguments: None"),
        (importing.lm_eval, lines({"target": 1, "arguments": [[3]]}), r"line 1: arguments: \[3\]"),
        (importing.lm_eval, lines(choice(2, "a", "b")), r"line 1: target: 2: wanted is the number of one of the 2"),
        (importing.lm_eval, lines(generated(" ")), r"line 1: target: ' '"),
        (importing.lm_eval, "", r"file: holds nothing to ask"),
        (importing.guidellm, "{}", r"file: benchmarks: None: wanted is list"),
        (importing.guidellm, '{"benchmarks": [{}]}', r"file: benchmarks.0: requests: None"),
        (
            importing.guidellm,
            '{"benchmarks": [{"requests": {"successful": [{}]}}]}',
            r"successful.0: request_args: None",
        ),
        (importing.traffic, lines({"model": "m"}), r"line 1: messages: None"),
        (importing.traffic, lines({"messages": [{"role": "user"}]}), r"line 1: messages.0: "),
        (importing.traffic, lines({"prompt": "a", "max_tokens": 0}), r"line 1: max_tokens: 0"),
    ],
)
def test_what_is_malformed_is_named(reader, text, words):
    with pytest.raises(Permanent, match=words):
        reader(text, "file")
