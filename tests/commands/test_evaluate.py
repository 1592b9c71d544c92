import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from llm_rollout.cli import main
from tests.canary.stub_server import Fault, StubServer, right

ROOT = Path(__file__).parents[2]
QUICK = {"max_pairs": 400, "error_margin": 0.05, "quality_margin": 0.05, "required": ["errors", "quality"]}
"""Wide margins decide soon; the times of stub servers on one busy machine say nothing."""


@pytest.fixture
def server():
    servers = []

    def start(behave=right, **kwargs):
        servers.append(StubServer(behave, **kwargs))
        return servers[-1]

    yield start
    for each in servers:
        each.close()


@pytest.fixture
def evaluate(capsys):
    def run(candidate, stable=None, config=QUICK, model="tiny", further=()):
        text = config if isinstance(config, str) else json.dumps(config)
        words = ["evaluate", f"--candidate={candidate}", f"--model={model}", f"--config={text}", *further]
        code = main([*words, f"--stable={stable}"] if stable else words)
        return code, [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    return run


def wrong_below(limit):
    """Answers wrongly where the first number is below the limit: so many tenths of the bundled set."""
    return lambda number, prompt: "wrong" if int(prompt[0]) < limit else right(number, prompt)


def dies_after(requests):
    return lambda number, prompt: Fault("hang up") if number > requests else right(number, prompt)


def test_a_candidate_as_good_as_stable_is_promoted(server, evaluate):
    code, lines = evaluate(server(wrong_below(1)).url, server(wrong_below(1)).url)

    assert code == 0
    assert [line["event"] for line in lines] == ["progress"] * 7 + ["report"]
    report = lines[-1]
    assert (report["decision"], report["metric"]) == ("promote", None)
    assert (report["pairs"], report["rounds"]) == (350, 7)
    for side in (report["candidate"], report["stable"]):
        assert side.items() >= {"requests": 350, "errors": 0, "graded": 100, "correct": 90}.items()
    assert "accuracy 0.90 against 0.90 of stable over 100 pairs" in report["sentence"]


def test_progress_says_where_each_pot_stands(server, evaluate):
    _, lines = evaluate(server().url, server().url)

    assert [line["pairs"] for line in lines[:-1]] == [50, 100, 150, 200, 250, 300, 350]
    assert [line["decision"] for line in lines[:-1]] == ["continue"] * 6 + ["promote"]
    assert lines[0]["pots"].keys() == {"errors", "quality"}
    trail, reached = lines[-1]["trail"], [line["pots"]["errors"]["not_worse"] for line in lines[:-1]]
    assert trail["rounds"] == [1, 2, 3, 4, 5, 6, 7]
    assert trail["not_worse"]["errors"] == pytest.approx(reached, rel=0.06)


def test_worse_answers_are_rolled_back_by_name_after_one_pass(server, evaluate):
    _, lines = evaluate(server(wrong_below(4)).url, server(wrong_below(1)).url)

    report = lines[-1]
    assert (report["decision"], report["metric"], report["pairs"]) == ("rollback", "quality", 100)
    assert report["sentence"].startswith("accuracy 0.60 against 0.90 of stable over 100 pairs")


def test_a_candidate_that_dies_on_the_way_is_rolled_back_for_its_errors(server, evaluate):
    _, lines = evaluate(server(dies_after(120)).url, server().url, QUICK | {"max_pairs": 1000})

    report = lines[-1]
    assert (report["decision"], report["metric"]) == ("rollback", "errors")
    assert report["candidate"]["failures"] == {"RemoteProtocolError": report["candidate"]["errors"]}
    assert report["stable"]["errors"] == 0


def test_a_stable_that_dies_on_the_way_holds_the_candidate(server, evaluate, monkeypatch):
    monkeypatch.setattr("llm_rollout.adapters.pairs._PAUSE_SECONDS", 0)
    _, lines = evaluate(server().url, server(dies_after(120)).url, QUICK | {"max_pairs": 250})

    report = lines[-1]
    assert (report["decision"], report["pairs"]) == ("undecided", 250)
    assert "stable itself failed" in report["sentence"]


def test_the_deadline_ends_undecided(server, evaluate, monkeypatch):
    monkeypatch.setattr("llm_rollout.commands.evaluate._ASKING_SHARE", 0.05)
    gate = threading.Event()

    def hangs(number, prompt):
        if number > 60:
            gate.wait(60)
        return right(number, prompt)

    stuck = server(hangs)
    try:
        _, lines = evaluate(stuck.url, server().url, QUICK | {"deadline_seconds": 30})
    finally:
        gate.set()

    assert lines[-1]["decision"] == "undecided"
    assert "canary.deadline_seconds is over" in lines[-1]["sentence"]


@pytest.mark.parametrize(
    ("behave", "decision", "metric"),
    [
        pytest.param(right, "promote", None, id="good"),
        pytest.param(wrong_below(6), "rollback", "quality", id="below the floor"),
        pytest.param(dies_after(90), "rollback", "errors", id="dies"),
    ],
)
def test_a_first_deployment_is_held_against_the_floors(server, evaluate, behave, decision, metric):
    code, lines = evaluate(server(behave).url)

    report = lines[-1]
    assert (code, report["decision"], report["metric"]) == (0, decision, metric)
    assert (report["stable"], report["candidate"]["requests"], report["pairs"]) == (None, 100, 100)


def test_own_tasks_are_read_from_a_file(server, evaluate, tmp_path):
    own = tmp_path / "own.jsonl"
    own.write_text('{"id": "a", "prompt": "2+2=", "answer": "4"}\n')

    _, lines = evaluate(server().url, config={"tasks": str(own)})

    assert lines[-1]["candidate"]["correct"] == 1


def nobody():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


@pytest.mark.parametrize(
    ("config", "code", "kind", "words"),
    [
        pytest.param("{", 2, "Usage", "--config: ", id="no JSON"),
        pytest.param('{"alpha": 2}', 2, "Usage", "alpha", id="out of range"),
        pytest.param("@/nowhere.json", 2, "Usage", "/nowhere.json", id="no such file"),
        pytest.param({"tasks": "poetry"}, 3, "Permanent", "write one of arithmetic", id="not bundled"),
        pytest.param({"tasks": "/nowhere.jsonl"}, 3, "Permanent", "/nowhere.jsonl", id="no such tasks"),
    ],
)
def test_what_cannot_work_is_an_error_line(evaluate, config, code, kind, words):
    ended, lines = evaluate(nobody(), config=config)

    assert (ended, lines[-1]["event"], lines[-1]["class"]) == (code, "error", kind)
    assert words in lines[-1]["message"]
    assert lines[-1]["remedy"]


def test_a_bad_line_of_tasks_is_named(evaluate, tmp_path):
    own = tmp_path / "own.jsonl"
    own.write_text('{"id": "a", "prompt": "2+2=", "grader": "exact"}\n')

    code, lines = evaluate(nobody(), config={"tasks": str(own)})

    assert code == 3
    assert f"{own}, line 1: answer: no value" in lines[-1]["message"]


def test_another_model_is_permanent(server, evaluate):
    code, lines = evaluate(server(model="huge").url)

    assert (code, lines[-1]["class"]) == (3, "Permanent")
    assert "serves huge, not tiny" in lines[-1]["message"]


def test_a_candidate_that_is_not_reached_is_transient(server, evaluate, monkeypatch):
    monkeypatch.setattr("llm_rollout.commands.evaluate._ASKING_SHARE", 0.0001)

    code, lines = evaluate(nobody(), server().url)

    assert (code, lines[-1]["class"]) == (4, "Transient")


def test_a_config_file_is_read(server, evaluate, tmp_path):
    file = tmp_path / "canary.json"
    file.write_text('{"min_accuracy": 1.0}')

    _, lines = evaluate(server(wrong_below(1)).url, config=f"@{file}")

    assert lines[-1]["metric"] == "quality"


def test_a_run_goes_on_with_the_state_that_another_printed(server, evaluate):
    stable, candidate = server(wrong_below(1)).url, server(wrong_below(1)).url
    _, whole = evaluate(candidate, stable)

    code, resumed = evaluate(candidate, stable, further=[f"--resume={whole[2]['state']}"])

    assert code == 0
    assert [line["pairs"] for line in resumed] == [200, 250, 300, 350, 350]
    assert [line["pots"] for line in resumed[:-1]] == [line["pots"] for line in whole[3:-1]]
    assert resumed[-1]["sentence"] == whole[-1]["sentence"]
    assert resumed[-1]["trail"] == whole[-1]["trail"]
    assert "state" not in whole[-1]


def test_a_comparison_that_ran_out_of_time_says_how_to_go_on(server, evaluate, monkeypatch):
    monkeypatch.setattr("llm_rollout.commands.evaluate._ASKING_SHARE", 0.05)
    gate = threading.Event()

    def hangs(number, prompt):
        if number > 60:
            gate.wait(60)
        return right(number, prompt)

    stuck = server(hangs)
    try:
        _, lines = evaluate(stuck.url, server().url, QUICK | {"deadline_seconds": 60})
    finally:
        gate.set()

    assert lines[-1]["decision"] == "undecided"
    assert lines[-1]["state"] == lines[-2]["state"]
    assert "trail" not in lines[-1], "the state holds it, and the record has no room for both"


@pytest.mark.parametrize("state", ["nonsense", "other"])
def test_a_state_of_something_else_is_refused(server, evaluate, state):
    stable, candidate = server().url, server().url
    if state == "other":
        _, lines = evaluate(candidate, stable, QUICK | {"alpha": 0.01})
        state = lines[0]["state"]

    code, lines = evaluate(candidate, stable, further=[f"--resume={state}"])

    assert (code, lines[-1]["class"]) == (3, "Permanent")
    assert lines[-1]["message"].startswith("--resume: ")


def test_the_report_says_how_hard_stable_was_asked(server, evaluate):
    _, lines = evaluate(server().url, server(metrics=None).url)

    assert lines[-1].items() >= {"stable_has_gauges": False, "waited_for_stable_seconds": 0.0}.items()
    assert {"ttft_ms_median", "ttft_ms_p99"} <= lines[-1]["stable"].keys()


def test_sigterm_ends_it_at_once(server):
    gate = threading.Event()

    def hangs(number, prompt):
        gate.wait(60)
        return right(number, prompt)

    stuck = server(hangs)
    command = [sys.executable, "-m", "llm_rollout", "evaluate", f"--candidate={stuck.url}", "--model=tiny"]
    process = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT / "include")})
    try:
        while not stuck.bodies:
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 143
    finally:
        gate.set()
        process.kill()
        process.wait()
