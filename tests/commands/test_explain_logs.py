import io
import json
import random
from pathlib import Path

import pytest

from llm_rollout.cli import main
from llm_rollout.coldstart.remedies import remedy
from llm_rollout.commands.explain_logs import shortened

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


def test_a_folder_in_the_place_of_a_log_is_named(explain, tmp_path):
    code, told, complaint = explain(tmp_path)
    assert (code, told) == (2, [])
    assert f"{tmp_path}: Is a directory: name a file" in complaint


def test_a_log_that_a_windows_shell_wrote_is_read(explain, tmp_path):
    (tmp_path / "wide.log").write_text((WRITTEN / "oom-on-one-rank.log").read_bytes().decode(), "utf-16", newline="")
    code, told, _ = explain(tmp_path / "wide.log")
    assert (code, told[0]["cause"]["class"]) == (0, "GPU_OOM")


def test_noise_of_bytes_without_any_line_is_answered(explain, tmp_path):
    (tmp_path / "noise").write_bytes(random.Random(1).randbytes(300_000))  # noqa: S311 - noise
    code, told, _ = explain(tmp_path / "noise")
    assert (code, told[0]["phase"]) == (0, "process")


def test_the_middle_of_a_long_log_is_left_out_and_lines_keep_their_numbers():
    start = "vLLM server version 0.33.0, serving model /m\n"
    rows = ["first\n", *[f"{number}\n" for number in range(1000)], start, *["x\n"] * 1000, "last\n"]
    kept = shortened(iter(rows), half=100).split("\n")
    assert len(kept) == len(rows) + 1
    assert (kept[0], kept[1001], kept[-2]) == ("first", start.strip(), "last")
    assert set(kept[200:1001]) == {""}


def test_a_line_without_an_end_takes_no_more_than_a_long_line(explain, tmp_path):
    (tmp_path / "one").write_text("x" * 3_000_000 + "\nKilled")
    _, told, _ = explain(tmp_path / "one")
    assert (told[0]["cause"]["class"], told[0]["cause"]["line"]) == ("HOST_MEMORY", 2)


def test_what_a_client_asks_is_no_word_of_the_engines(explain, tmp_path):
    asked = "INFO 11-14 20:16:33 [logger.py:43] Received request chatcmpl-1: prompt: 'Received SIGTERM'\n"
    (tmp_path / "log").write_text(f"INFO:     Application startup complete.\n{asked}")
    _, told, _ = explain(tmp_path / "log")
    assert (told[0]["phase"], told[0]["cause"]) == ("serving", None)
