import pytest

from llm_rollout.canary.json_schema import fits, problem

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "minLength": 1, "pattern": "^[A-Z]"}, "age": {"type": "integer"}},
    "required": ["name"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("schema", "value", "right"),
    [
        (PERSON, {"name": "Ana", "age": 3}, True),
        (PERSON, {"name": "Ana", "age": 3.0}, True),
        (PERSON, {"name": "Ana"}, True),
        (PERSON, {"age": 3}, False),
        (PERSON, {"name": "Ana", "town": "Rome"}, False),
        (PERSON, {"name": "ana"}, False),
        (PERSON, {"name": ""}, False),
        (PERSON, {"name": "Ana", "age": True}, False),
        (PERSON, [], False),
        ({"type": ["string", "null"]}, None, True),
        ({"type": ["string", "null"]}, 3, False),
        ({"type": "number"}, 3.5, True),
        ({"type": "number"}, False, False),
        ({"type": "boolean"}, 1, False),
        ({"enum": ["a", 1]}, 1, True),
        ({"enum": ["a", 1]}, True, False),
        ({"const": ["a", "b"]}, ["a", "b"], True),
        ({"const": ["a", "b"]}, ["b", "a"], False),
        ({"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": 2}, [1, 2], True),
        ({"type": "array", "items": {"type": "integer"}}, [1, "2"], False),
        ({"minItems": 1}, [], False),
        ({"maxItems": 1}, [1, 2], False),
        ({"maxLength": 2}, "abc", False),
        ({"minimum": 2, "maximum": 3}, 2, True),
        ({"minimum": 2}, 1.9, False),
        ({"maximum": 2}, 2.1, False),
        ({"minimum": 2}, "a text is no number", True),
        ({}, {"any": "thing"}, True),
    ],
)
def test_a_value_fits_a_schema(schema, value, right):
    assert fits(value, schema) is right


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"$ref": "#/x"}, "a schema without '$ref'"),
        ({"properties": {"a": {"format": "date"}}}, "a schema without 'format'"),
        ({"items": {"anyOf": []}}, "a schema without 'anyOf'"),
        ({"type": "text"}, "another type than 'text'"),
        ({"minLength": -1}, "another minLength than -1"),
        ({"minimum": "1"}, "another minimum than '1'"),
        ({"pattern": "("}, "another pattern than '('"),
        ({"required": "name"}, "another required than 'name'"),
        ({"additionalProperties": {}}, "another additionalProperties than {}"),
        (["type"], "an object"),
    ],
)
def test_what_is_not_known_is_refused(schema, words):
    assert words in problem(schema)


def test_a_known_schema_is_fine():
    assert not problem(PERSON)
