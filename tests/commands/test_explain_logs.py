import io
import json
from pathlib import Path

import pytest

from llm_rollout.cli import main
from llm_rollout.coldstart.remedies import remedy

WRITTEN = Path(__file__).parents[1] / "coldstart" / "samples" / "written"
REAL = WRITTEN.with_name("vllm-0.32-cpu")


@pytest.fixture
def explain(capsys):
    def run(*files):
        code = main(["explain-logs", *map(str, files)])
        printed = capsys.readouterr()
        return code, [json.loads(line) for line in printed.out.splitlines()], printed.err

    return run


def test_one_line_tells_phase_progress_and_cause(explain):
    file = WRITTEN / "oom-on-one-rank.log"
    code, told, _ = explain(file)
    (cause,) = (each["cause"] for each in told)

    assert code == 0
    assert list(told[0]) == ["file", "phase", "progress", "cause"]
    assert (told[0]["file"], told[0]["phase"], told[0]["progress"]) == (str(file), "weights", 100.0)
    assert list(cause) == ["class", "message", "line", "remedy"]
    assert (cause["class"], cause["remedy"]) == ("GPU_OOM", remedy("GPU_OOM"))
    assert cause["message"] in file.read_bytes().decode().split("\n")[cause["line"] - 1]


def test_a_healthy_log_has_no_cause(explain):
    code, told, _ = explain(WRITTEN / "healthy-gpu.log")
    assert (code, told[0]["phase"], told[0]["progress"], told[0]["cause"]) == (0, "serving", None, None)


def test_several_files_are_told_in_their_order_and_then_what_came_first_among_them(explain):
    leader, worker = (REAL / "truncated-on-worker" / f"{name}.log" for name in ("leader", "worker"))
    code, told, _ = explain(leader, worker)

    assert code == 0
    assert [each.get("file") for each in told] == [str(leader), str(worker), None]
    assert [each["cause"]["class"] for each in told[:2]] == ["PEER_LOST", "WEIGHTS_CORRUPT"]
    first = {"file": str(worker), "class": "WEIGHTS_CORRUPT", "line": told[1]["cause"]["line"]}
    assert told[2] == {"group": True, "first": first}


def test_a_group_in_which_nothing_failed_has_no_first_cause(explain):
    _, told, _ = explain(*sorted((REAL / "healthy-group").glob("*.log")))
    assert told[-1] == {"group": True, "first": None}


def test_flags_that_differ_are_the_first_cause_of_a_group_that_never_met(explain, tmp_path):
    for name, nodes in (("leader", 2), ("worker", 3)):
        text = f"INFO 11-23 10:00:01 [x.py:1] non-default args: {{'nnodes': {nodes}}}\n"
        (tmp_path / name).write_text(text + "DistStoreError: wait timeout after 60000ms, keys: /default_pg/0\n")
    _, told, _ = explain(tmp_path / "leader", tmp_path / "worker")
    assert told[-1]["first"] == {"file": str(tmp_path / "worker"), "class": "FLAGS_DISAGREE", "line": 1}


def test_a_file_that_cannot_be_read_is_named_and_the_others_are_answered(explain, tmp_path):
    code, told, complaint = explain(tmp_path / "gone.log", WRITTEN / "terminated.log")
    assert code == 2
    assert str(tmp_path / "gone.log") in complaint
    assert [each.get("phase") for each in told] == ["stopped", None]
    assert told[-1] == {"group": True, "first": None}


def test_an_empty_file_and_one_that_is_no_text_are_answered(explain, tmp_path):
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "binary").write_bytes(bytes(range(256)) * 50)
    code, told, _ = explain(tmp_path / "empty", tmp_path / "binary")
    assert code == 0
    assert told[0] == {"file": str(tmp_path / "empty"), "phase": None, "progress": None, "cause": None}
    assert told[1]["cause"] is None


def test_standard_input_is_read(explain, monkeypatch):
    data = (WRITTEN / "unknown-exception.log").read_bytes()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
    _, told, _ = explain("-")
    assert (told[0]["file"], told[0]["cause"]["class"]) == ("-", "UNKNOWN")
    assert told[0]["cause"]["message"] == "vllm.odd.OddError: the moon is in the wrong house"
