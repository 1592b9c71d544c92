import json

import pytest

from llm_rollout.canary.grading import GRADERS


def is_right(grader, given, wanted, tolerance=0.0):
    return GRADERS[grader].right(given, wanted, tolerance)


@pytest.mark.parametrize(
    ("given", "wanted", "tolerance", "right"),
    [
        ("42", "42", 0, True),
        ("First 40, then 2 more: the answer is 42.", "42", 0, True),
        ("42 of 50", "42", 0, False),
        ("It costs $1,250.50.", "1250.5", 0, True),
        ("1,2", "2", 0, True),
        ("minus: -7", "-7", 0, True),
        ("\N{MINUS SIGN}7", "-7", 0, True),
        ("3-7", "7", 0, True),
        ("3e2", "300", 0, True),
        ("3.14", "3.14159", 0.01, True),
        ("3.2", "3.14159", 0.01, False),
        ("0.30000000000000004", "0.3", 0, True),
        ("none", "0", 0, False),
        ("", "0", 0, False),
        ("...", "0", 0, False),
    ],
)
def test_numeric_takes_the_last_number(given, wanted, tolerance, right):
    assert is_right("numeric", given, wanted, tolerance) is right


@pytest.mark.parametrize(
    "given",
    ["B", " b ", "(B)", "B.", "B)", "B: oxygen", "B. Oxygen", "**B**", "(B) Oxygen", "Answer: B", "answer: (b)",
     "The answer is B.", "The correct answer is **B**", "A is wrong. The answer is B", "B\nbecause", "[B]"],
)  # fmt: skip
def test_a_choice_is_read_in_its_usual_forms(given):
    assert is_right("multiple_choice", given, "B")


@pytest.mark.parametrize("given", ["A", "", "Both", "By and by", "Answer: A, not B", "the letter", "C. B"])
def test_another_or_no_choice_is_wrong(given):
    assert not is_right("multiple_choice", given, "B")


def test_an_article_is_no_choice():
    assert not is_right("multiple_choice", "A dolphin is a mammal", "A")


@pytest.mark.parametrize(("given", "right"), [("It is PARIS.", True), ("Parisian", False), ("", False)])
def test_a_pattern_is_found_anywhere(given, right):
    assert is_right("regex", given, r"(?i)\bparis\b") is right


@pytest.mark.parametrize(
    ("given", "right"),
    [
        ('{"age": 3}', True),
        ('Sure:\n```json\n{"age": 3}\n```\nDone.', True),
        ('{"age": "3"}', False),
        ('{"age": 3', False),
        ("three", False),
        ("[" * 5000, False),
    ],
)
def test_json_is_held_against_the_schema(given, right):
    schema = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}

    assert is_right("json_schema", given, json.dumps(schema)) is right
