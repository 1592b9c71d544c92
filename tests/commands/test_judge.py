import io
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_rollout.canary.docket import Numbers
from llm_rollout.cli import main

ROOT = Path(__file__).parents[2]
FAILED = {"ok": False}


def good(source, slower=1.0):
    ttft = 300 * slower * source.lognormvariate(0, 0.2)
    return {"ok": True, "ttft_ms": ttft, "total_ms": ttft + 63 * 30, "tokens": 64, "correct": True}


def pairs(number, seed=0, candidate=good, stable=good):
    source = random.Random(seed)  # noqa: S311 - repeatable, not secret
    return [{"stable": stable(source), "candidate": candidate(source)} for _ in range(number)]


def dead(_source):
    return FAILED


def line(rollout, some, **more):
    return json.dumps({"rollout": rollout, "pairs": some} | more)


@pytest.fixture
def judge(monkeypatch, capsys, tmp_path):
    def run(*lines, config=None, end="\n"):
        words = ["judge"]
        if config is not None:
            (tmp_path / "rules").write_text(config if isinstance(config, str) else json.dumps(config))
            words.append(f"--config={tmp_path / 'rules'}")
        text = "\n".join(lines) + end
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
        code = main(words)
        captured = capsys.readouterr()
        return code, [json.loads(each) for each in captured.out.splitlines()], captured.err

    return run


def rounds(number, rollout="a", **kinds):
    return [line(rollout, pairs(50, seed, **kinds)) for seed in range(number)]


def test_the_same_twice_is_promoted_and_the_decision_repeated(judge):
    code, said, _ = judge(*rounds(60))

    ends = [each["decision"] for each in said]
    first = ends.index("promote")
    assert code == 0
    assert first < 24
    assert set(ends[:first]) == {"continue"}
    assert set(ends[first:]) == {"promote"}
    assert [each["round"] for each in said] == list(range(1, 61))
    assert said[0].keys() == {"rollout", "round", "decision", "metric", "evidence", "sentence"}
    assert all(each["sentence"] for each in said)
    assert {each["sentence"] for each in said[first:]} == {said[first]["sentence"]}


@pytest.mark.parametrize(
    ("candidate", "metric"),
    [
        (dead, "errors"),
        (lambda source: good(source, 1.2), "ttft"),
        (lambda source: good(source) | {"correct": source.random() < 0.8}, "quality"),
        (lambda source: (one := good(source)) | {"total_ms": one["ttft_ms"] + 63 * 36}, "itl"),
        (lambda source: good(source, 6 if source.random() < 0.04 else 1), "tail"),
    ],
    ids=["dead", "slower", "wrong", "slow between tokens", "stalls"],
)
def test_a_regression_is_rolled_back_by_name(judge, candidate, metric):
    _, said, _ = judge(*rounds(60, candidate=candidate))

    assert (said[-1]["decision"], said[-1]["metric"]) == ("rollback", metric)


def test_throughput_is_judged_where_no_first_token_is_known(judge):
    def whole(source, slower=1.0):
        return {"ok": True, "total_ms": slower * 2000 * source.lognormvariate(0, 0.1), "tokens": 64}

    _, said, _ = judge(*rounds(60, stable=whole, candidate=lambda source: whole(source, 1.3)))

    assert (said[-1]["decision"], said[-1]["metric"]) == ("rollback", "throughput")


@pytest.mark.parametrize("size", [1, 7, 50, 400, 3000])
def test_undecided_exactly_at_the_cap(judge, size):
    all_pairs = pairs(3000, stable=dead)
    lines = [line("a", all_pairs[at : at + size]) for at in range(0, 3000, size)]
    _, said, _ = judge(*lines, lines[0])

    assert [each["decision"] for each in said[:-2]] == ["continue"] * (len(lines) - 1)
    assert [each["decision"] for each in said[-2:]] == ["undecided"] * 2
    assert "stable itself failed" in said[-1]["sentence"]


def test_a_round_that_crosses_the_cap_counts_up_to_it(judge):
    _, said, _ = judge(line("a", pairs(130)), config={"cap_pairs": 120})

    assert said[0]["decision"] == "undecided"
    assert "of 120 requests" in said[0]["sentence"]


@pytest.mark.parametrize("without", ["ttft_ms", "tokens", "correct"])
def test_without_data_for_a_required_metric_it_holds(judge, without):
    def bare(source):
        return {name: value for name, value in good(source).items() if name != without}

    _, said, _ = judge(*rounds(60, stable=bare, candidate=bare))

    assert said[-1]["decision"] == "undecided"


def test_what_is_not_required_may_be_absent(judge):
    def bare(_source):
        return {"ok": True}

    _, said, _ = judge(*rounds(60, stable=bare, candidate=bare), config="required: [errors]\n")

    assert said[-1]["decision"] == "promote"


def test_empty_rounds_are_no_evidence(judge):
    _, said, _ = judge(*[line("a", [])] * 100)

    assert {each["decision"] for each in said} == {"continue"}
    assert {each["evidence"]["wealth"] for each in said} == {1.0}
    assert said[-1]["round"] == 100


def test_interleaved_rollouts_are_judged_alone(judge):
    one, other = rounds(30, "one"), rounds(30, "zwei \u2603", candidate=dead)
    mixed = [each for both in zip(one, other, strict=True) for each in both]

    _, alone, _ = judge(*one)
    _, also_alone, _ = judge(*other)
    _, together, _ = judge(*mixed)

    assert together[::2] == alone
    assert together[1::2] == also_alone


def test_the_same_pairs_in_other_rounds_end_alike(judge):
    some = pairs(2000, 3)
    ends = set()
    for size in (1, 7, 50, 333, 2000):
        _, said, _ = judge(*[line("a", some[at : at + size]) for at in range(0, 2000, size)])
        ends.add((said[-1]["decision"], said[-1]["sentence"], str(said[-1]["evidence"])))

    assert len(ends) == 1


def test_a_round_delivered_twice_is_ignored_and_answered_as_before(judge):
    once = [line("a", pairs(50, seed), round=seed) for seed in range(30)]
    twice = [each for each in once for _ in range(2)]

    _, expected, _ = judge(*once)
    _, said, _ = judge(*twice)

    assert said[::2] == expected
    assert said[1::2] == expected


def test_a_repeated_line_without_a_number_is_a_round_like_any_other(judge):
    _, said, _ = judge(*[line("a", pairs(50))] * 2)

    assert [each["round"] for each in said] == [1, 2]
    assert said[0]["evidence"] != said[1]["evidence"]


def test_longer_prompts_on_the_candidate_are_no_regression(judge):
    def asked(source, longest):
        length = source.randrange(100, longest)
        times = {"ttft_ms": length * source.lognormvariate(0, 0.1), "total_ms": 20 * length, "tokens": 64}
        return {"ok": True, "prompt_tokens": length} | times

    some = rounds(60, stable=lambda source: asked(source, 1000), candidate=lambda source: asked(source, 1500))
    _, said, _ = judge(*some, config={"required": ["errors", "ttft"]})

    assert said[-1]["decision"] != "rollback"
    assert said[-1]["evidence"]["not_worse"]["ttft"] > 20


RIGHT = {"ok": True, "ttft_ms": 1.0, "total_ms": 2.0, "tokens": 2}


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ("{", "it is not JSON"),
        ("\xff", "it is not JSON"),
        ("[1]", "it is not an object"),
        ('{"pairs": []}', "rollout: nothing is not a string"),
        ('{"rollout": 7, "pairs": []}', "rollout: 7 is not a string"),
        ('{"rollout": "a"}', "pairs: nothing is not a list"),
        (line("a", [3]), "pairs[0]: 3 is not an object"),
        (line("a", [{"stable": RIGHT}]), "pairs[0].candidate: nothing"),
        (line("a", [{"stable": {}, "candidate": RIGHT}]), "pairs[0].stable.ok"),
        (line("a", [{"stable": RIGHT | {"ok": 1}, "candidate": RIGHT}]), "pairs[0].stable.ok"),
        (line("a", [{"stable": RIGHT, "candidate": RIGHT | {"ttft_ms": -1}}]), "pairs[0].candidate.ttft_ms: -1"),
        (line("a", [{"stable": RIGHT, "candidate": RIGHT | {"ttft_ms": float("nan")}}]), "NaN is not a number"),
        (line("a", [{"stable": RIGHT, "candidate": RIGHT | {"total_ms": 1e300}}]), "total_ms: 1e+300"),
        ('{"rollout": "a", "pairs": [{"stable": {"ok": true, "ttft_ms": 1e999}, "candidate": {"ok": true}}]}', "inf"),
        (line("a", [{"stable": RIGHT, "candidate": RIGHT | {"tokens": 1.5}}]), "tokens: 1.5 is not a whole number"),
        (line("a", [{"stable": RIGHT, "candidate": RIGHT | {"correct": "yes"}}]), "correct: 'yes'"),
        (line("a", [{"stable": None, "candidate": RIGHT}]), "pairs[0].stable: nothing"),
        (line("a", [{"stable": RIGHT, "candidate": "ok"}]), "pairs[0].candidate: 'ok'"),
        (line("a", [[RIGHT, RIGHT]]), "is not an object with stable and candidate"),
        (line("a", [{"stable": RIGHT, "candidate": RIGHT | {"ttft_ms": True}}]), "ttft_ms: True"),
        (line("a", [{"stable": RIGHT, "candidate": RIGHT | {"ttft_ms": "300"}}]), "ttft_ms: '300'"),
        (line("a", [{"stable": FAILED | {"total_ms": -1}, "candidate": RIGHT}]), "pairs[0].stable.total_ms: -1"),
        (line("a", [{"stable": RIGHT, "candidate": RIGHT | {"ttft_ms": 10**400}}]), "ttft_ms: 1000"),
        (line("a", [], round=True), "round: True"),
        (line("a", [], round=1.5), "round: 1.5"),
        (line("a", []) + line("a", []), "it is not JSON: Extra data"),
        (line("a", [], round=-1), "round: -1"),
        (line("a", [], round="x"), "round: 'x'"),
        ("[" * 100_000, "it is not JSON"),
    ],
)
def test_a_line_that_is_no_round_ends_it_with_its_number(judge, bad, words):
    code, said, error = judge(line("a", pairs(5)), bad, line("a", pairs(5)))

    assert code == 2
    assert len(said) == 1
    assert "line 2: " in error
    assert words in error
    assert "Traceback" not in error


def one(candidate=RIGHT, stable=RIGHT, **more):
    return line("a", [{"stable": stable, "candidate": candidate}], **more)


@pytest.mark.parametrize(
    ("unusual", "usual"),
    [
        pytest.param(one(RIGHT | {"tokens": 2.0}), one(), id="a whole number as a float"),
        pytest.param(one(round=1.0), one(round=1), id="a whole round as a float"),
        pytest.param(one(round=None), one(), id="no round"),
        pytest.param("\ufeff" + one() + "\r", one(), id="marks of Windows"),
        pytest.param("\n \t\n" + one() + "\n", one(), id="blank lines"),
        pytest.param(one(note={"NaN": [None]}), one(), id="more than is asked"),
        pytest.param(one(RIGHT | {"kv": 1}), one(), id="more of an answer"),
        pytest.param(one(FAILED | dict.fromkeys(("ttft_ms", "correct"))), one(FAILED), id="null for nothing"),
    ],
)
def test_what_means_the_same_is_read_the_same(judge, unusual, usual):
    assert judge(unusual, *rounds(2)) == judge(usual, *rounds(2))


@pytest.mark.parametrize(
    "strange",
    [{"total_ms": 0.5}, {"tokens": 0}, {"tokens": 1}, {"ttft_ms": 0, "total_ms": 0}, {"ttft_ms": -0.0}],
    ids=["over before it began", "no token", "one token", "no time", "minus nothing"],
)
def test_times_that_say_little_are_no_error(judge, strange):
    code, said, _ = judge(*[line("a", [{"stable": RIGHT | strange, "candidate": RIGHT | strange}] * 50)] * 8)

    assert (code, len(said)) == (0, 8)
    assert said[-1]["evidence"]["wealth"] < 1.1


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"alfa": 1}, "alfa: there is no such key"),
        ({"alpha": 0}, "alpha: 0 is not a number from"),
        ({"round_pairs": 1.5}, "round_pairs: 1.5 is not a whole number"),
        ({"required": ["speed"]}, "required:"),
        ({"tolerance": {"ttft": 0.5}}, "tolerance.ttft: 0.5"),
        ({"margin": {"ttft": 1.01}}, "margin.ttft: 1.01 is not above its tolerance 1.02"),
        ({"weights": dict.fromkeys(("errors", "ttft", "tail", "itl", "throughput", "quality"), 0)}, "weights: all"),
        ({"alpha": True}, "alpha: True is not a number"),
        ({"cap_pairs": "many"}, "cap_pairs: 'many' is not a whole number"),
        ({"required": []}, "required: [] is not a list of metrics: write some of errors,"),
        ({"weights": {"speed": 1}}, "weights.speed: there is no such key: write one of"),
        ({"weights": None}, "weights: None is not a mapping"),
        ({"margin": {"tail": 2}}, "margin.tail: there is no such key: write one of"),
        ({"history": {"p95": 100, "p90": 300}}, "history.p90: 300 is above p95"),
        ("history: {p99: .inf}", "history.p99: inf is not a number"),
        ("{", "neither YAML nor JSON"),
        ("- 1", "is not a mapping"),
    ],
)
def test_a_wrong_configuration_is_named(judge, config, words):
    code, said, error = judge(line("a", []), config=config)

    assert (code, said) == (2, [])
    assert words in error


@pytest.mark.parametrize("text", ["", "\n"])
def test_no_input_gives_no_output(judge, text):
    assert judge(text, end="") == (0, [], "")


@pytest.mark.parametrize(("redirected", "code", "words"), [("<&-", 0, ""), ("<rounds >/dev/full", 4, "No space left")])
def test_streams_that_are_not_there_give_no_traceback(tmp_path, redirected, code, words):
    (tmp_path / "rounds").write_text(line("a", pairs(5)))
    program = f"{sys.executable} -c 'from llm_rollout.cli import main; raise SystemExit(main([\"judge\"]))'"
    environment = os.environ | {"PYTHONPATH": str(ROOT / "include")}
    ended = subprocess.run(
        ["sh", "-c", f"{program} {redirected}"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (ended.returncode, ended.stdout) == (code, "")
    assert words in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_huge_round_is_judged_in_rounds_up_to_the_cap(judge):
    config = {"cap_pairs": 20_000, "required": ["quality"], "min_rounds": 1000}
    _, said, _ = judge(line("a", [{"stable": FAILED, "candidate": FAILED}] * 100_000), config=config)

    assert said[0]["decision"] == "undecided"
    assert "20000 of 20000 requests" in said[0]["sentence"]


def steady(_source):
    return {"ok": True, "ttft_ms": 300, "total_ms": 2190, "tokens": 64, "correct": True}


@pytest.mark.parametrize("size", [10, 50, 5000])
def test_times_that_never_vary_are_judged_in_rounds_of_any_size(judge, size):
    config = {"round_pairs": size, "cap_pairs": 60_000}
    ends = {}
    for name, candidate in (("same", steady), ("dead", dead), ("slow", lambda _: steady(_) | {"ttft_ms": 400})):
        _, said, _ = judge(line("a", pairs(60_000, stable=steady, candidate=candidate)), config=config)
        ends[name] = said[0]["decision"], said[0]["metric"]

    assert ends == {"same": ("promote", None), "dead": ("rollback", "errors"), "slow": ("rollback", "ttft")}


def test_the_last_line_needs_no_newline(judge):
    assert judge(*rounds(3), end="")[1] == judge(*rounds(3))[1]


def test_each_line_is_answered_before_the_next_is_written():
    code = "import sys; from llm_rollout.cli import main; sys.exit(main(['judge']))"
    environment = os.environ | {"PYTHONPATH": str(ROOT / "include")}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], env=environment, text=True, **pipes) as process:
        for number, each in enumerate(rounds(3), start=1):
            process.stdin.write(each + "\n")
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["round"] == number
        process.stdin.close()
        assert process.wait(30) == 0


@given(st.lists(st.integers(0, 30), max_size=60))
@settings(deadline=None)
def test_numbers_are_new_once(given_numbers):
    numbers, seen = Numbers(), set()
    for number in given_numbers:
        assert numbers.add(number) == (number not in seen)
        seen.add(number)
