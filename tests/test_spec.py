import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from llm_rollout.checking import check
from llm_rollout.spec import RolloutSpec
from llm_rollout.spec_loading import load_spec, load_specs
from llm_rollout.spec_messages import FORMS, schema_at
from llm_rollout.spec_problems import SpecError, masked
from llm_rollout.spec_rules import RULES
from llm_rollout.spec_rules_server import SERVER_RULES

ROOT = Path(__file__).parent.parent
ROLLOUTS = sorted((ROOT / "include/rollouts").glob("*.yaml"))
BAD = sorted((Path(__file__).parent / "bad_specs").glob("*.yaml"))

SMALL = {
    "name": "chat",
    "model": {"repo": "org/chat"},
    "server": {"nodes_per_group": 3, "tensor_parallel": 8, "pipeline_parallel": 3},
    "service": {"name": "chat-api"},
}


def written(folder, spec, name="chat.yaml"):
    path = folder / name
    path.write_text(spec if isinstance(spec, str) else yaml.safe_dump(spec))
    return path


def problems_of(path):
    with pytest.raises(SpecError) as caught:
        load_spec(path)
    return caught.value.problems


def expectation(path):
    field, message, *_ = path.read_text().splitlines()
    return field.removeprefix("# field:").strip(), message.removeprefix("# message:").strip()


def with_rendered(path):
    """What ``check`` says, the lint of the rendered manifests included."""
    return str(check([path])).splitlines()


@pytest.mark.parametrize("path", ROLLOUTS, ids=lambda path: path.stem)
def test_examples_are_valid_and_short(path):
    assert load_spec(path).name == path.stem
    assert len(path.read_text().splitlines()) < 40


def test_there_are_thirty_bad_specs_or_more():
    assert len(BAD) >= 30


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_each_bad_spec_gives_one_line_with_field_value_and_remedy(path):
    field, message = expectation(path)
    lines = with_rendered(path)

    assert len(lines) == 1
    told = lines[0].removeprefix(f"{path}: ")
    assert message in told
    if field:
        assert told.startswith((f"{field}: value ", f"{field}: no value: "))
        told = told.removeprefix(f"{field}: ")
    assert len(told.split(": ")) >= (3 if field else 2), "a remedy follows what is wrong"


def test_every_problem_is_reported_at_once(tmp_path):
    spec = {
        **SMALL,
        "name": "Chat",
        "groups": 0,
        "timing": {"drain_seconds": "long"},
        "server": {**SMALL["server"], "tensor_parallel": 4, "extra_args": ["--port=1"]},
        "unknown": 1,
    }

    assert {problem.field_path for problem in problems_of(written(tmp_path, spec))} == {
        "name",
        "groups",
        "timing.drain_seconds",
        "server.tensor_parallel",
        "server.extra_args[0]",
        "unknown",
    }


def test_a_rule_says_nothing_about_a_field_that_is_known_to_be_wrong(tmp_path):
    spec = {**SMALL, "fabric": {"min_fraction_of_rate": 7, "warn_fraction_of_rate": 0.5}}

    assert [problem.field_path for problem in problems_of(written(tmp_path, spec))] == ["fabric.min_fraction_of_rate"]


def test_rules_look_at_the_other_fields_when_a_required_one_is_missing(tmp_path):
    spec = {**SMALL, "service": None, "store": {"mount_path": "/etc"}, "autoscaling": {}}

    assert {problem.field_path for problem in problems_of(written(tmp_path, spec))} == {
        "service",
        "store.mount_path",
        "autoscaling.max_groups",
    }


def test_times_and_words_are_text_without_quotes(tmp_path):
    window = "upgrades: {window: {start: 22:00, end: 04:00, timezone: Etc/UTC}}\n"
    spec = load_spec(written(tmp_path, yaml.safe_dump({**SMALL, "namespace": "no"}).replace("'", "") + window))

    assert spec.upgrades is not None
    assert (spec.upgrades.window.start, spec.upgrades.window.end) == ("22:00", "04:00")
    assert spec.namespace == "no"


def test_a_file_is_the_spec_that_it_says(tmp_path):
    spec = RolloutSpec.model_validate(SMALL)

    assert load_spec(written(tmp_path, SMALL)) == spec
    assert load_spec(written(tmp_path, json.dumps(spec.model_dump(mode="json")))) == spec


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\xff\xfe\x00", "not text in UTF-8"),
        (bytes(range(128)), "not YAML"),
        (b"[" * 100_000, "nested deeper than 50 levels"),
        (b"? [a]\n: b\n", "not YAML: line 1"),
        (b"name: !!binary aGVsbG8=\n", "holds values that are not data"),
        (b"name: !!python/object/apply:os.getcwd []\n", "not YAML: line 1"),
        (b"name: " + b"9" * 5000, "not YAML"),
        (b"x" * 2_000_000, "larger than 1048576 bytes"),
        (b"just text", "a text instead of a spec"),
        (b"3", "a single value instead of a spec"),
        (b"", "the file is empty"),
        (b"# only a comment\n---\n", "the file is empty"),
    ],
)
def test_files_that_are_no_specs_give_one_clear_line(content, says, tmp_path):
    path = tmp_path / "spec.yaml"
    path.write_bytes(content)
    (problem,) = problems_of(path)

    assert says in str(problem)
    assert "\n" not in str(problem)


def test_a_file_that_cannot_be_read_gives_one_clear_line(tmp_path):
    (missing,) = problems_of(tmp_path / "none.yaml")
    (folder,) = problems_of(tmp_path)

    assert str(missing) == f"{tmp_path}/none.yaml: cannot be read: No such file or directory: check path and rights"
    assert "cannot be read: Is a directory" in str(folder)


def test_two_files_cannot_claim_one_name_or_one_service(tmp_path):
    files = [
        written(tmp_path, SMALL, "a.yaml"),
        written(tmp_path, {**SMALL, "service": {"name": "other"}}, "same_name.yaml"),
        written(tmp_path, {**SMALL, "name": "talk"}, "same_service.yaml"),
        written(tmp_path, {**SMALL, "name": "talk", "namespace": "elsewhere"}, "fine.yaml"),
        written(tmp_path, {**SMALL, "name": "Bad"}, "bad.yaml"),
    ]
    specs, problems = load_specs(files)

    assert [path.stem for path in specs] == ["a", "fine"]
    assert [(Path(problem.file).stem, problem.field_path) for problem in problems] == [
        ("same_name", "name"),
        ("same_service", "service.name"),
        ("bad", "name"),
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {"model": {"repo": "org/chat", "endpoint": "https://user:hunter2@hub.example"}},
        {"server": {**SMALL["server"], "env": {"A": "hf_hunter2hunter2"}}},
        {"server": {**SMALL["server"], "extra_args": ["--x=hf_hunter2hunter2", "--port=1"]}},
        {"server": {**SMALL["server"], "hf_hunter2hunter2": 1}},
        {"approval": {"assigned_users": ["hf_hunter2hunter2", 1]}},
    ],
)
def test_no_message_repeats_a_secret(changes, tmp_path):
    problems = problems_of(written(tmp_path, {**SMALL, **changes}))

    assert problems
    assert "hunter2" not in "".join(str(problem) for problem in problems)
    assert "hunter2" not in str(SpecError(problems))


def test_masking_leaves_other_text_alone():
    assert masked("https://hub.example/a@b hf_x and shelf_life") == "https://hub.example/a@b hf_x and shelf_life"


def test_every_pattern_of_the_spec_is_said_in_words():
    text = json.dumps(RolloutSpec.model_json_schema())
    patterns = {json.loads(f'"{part.split(chr(34))[0]}"') for part in _after(text, '"pattern": "')}

    assert patterns == set(FORMS)


def _after(text, mark):
    return text.replace('\\"', "''").split(mark)[1:]


def test_every_rule_reads_fields_that_exist():
    for rule in (*RULES, *SERVER_RULES):
        for path in rule.reads:
            assert schema_at(path.split(".")), path


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=5,
)
places = st.sampled_from([
    ("name",), ("model",), ("model", "repo"), ("model", "revision"), ("server",), ("server", "tensor_parallel"),
    ("server", "extra_args"), ("server", "env"), ("server", "resources"), ("server", "network"), ("server", "image"),
    ("service",), ("service", "name"), ("store",), ("fabric",), ("canary",), ("timing",), ("approval",),
    ("upgrades",), ("autoscaling",), ("groups",), ("job_image",), ("something",),
])  # fmt: skip


@given(st.lists(st.tuples(places, json_values), min_size=1, max_size=4))
def test_whatever_a_field_holds_the_answer_is_a_spec_or_lines(tmp_path_factory, changes):
    spec = json.loads(json.dumps(SMALL))
    for (*above, last), value in changes:
        part = spec
        for key in above:
            part[key] = part[key] if isinstance(part.get(key), dict) else {}
            part = part[key]
        part[last] = value
    path = written(tmp_path_factory.mktemp("spec"), json.dumps(spec))
    specs, problems = load_specs([path])

    assert bool(specs) != bool(problems)
    assert all(len(str(problem).splitlines()) == 1 for problem in problems)
