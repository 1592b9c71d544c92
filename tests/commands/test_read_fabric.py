import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from devcluster.controlplane import python_path
from llm_rollout.cli import main

SAMPLES = Path(__file__).parents[1] / "fabric" / "reading" / "samples"


@pytest.fixture
def read_fabric(capsys):
    def run(*files):
        code = main(["read-fabric", *map(str, files)])
        printed = capsys.readouterr()
        return code, [json.loads(line) for line in printed.out.splitlines()], printed.err

    return run


def test_one_object_for_each_file_in_their_order_whatever_was_read(read_fabric, tmp_path):
    picture = tmp_path / "picture.png"
    picture.write_bytes(b"\x89PNG\0\0")
    names = ("perftest_write_bw_gbits.txt", "nccl_log_socket.txt", "perftest_write_lat.txt")
    code, told, _ = read_fabric(*(SAMPLES / name for name in names), picture)

    assert code == 0
    assert [(each["tool"], each["status"]) for each in told] == [
        ("ib_write_bw", "ok"),
        ("nccl-log", "failed"),
        ("ib_write_lat", "ok"),
        ("unknown", "unreadable"),
    ]
    assert list(told[0]) == [
        "tool", "status", "rows", "gate_gbps", "gate_busbw_gbytes", "gate_usec", "error_class", "transport",
    ]  # fmt: skip


def test_a_row_stands_as_printed_and_the_gate_of_both_directions_is_half(read_fabric):
    _, [told], _ = read_fabric(SAMPLES / "perftest_write_bw_bidirectional.txt")

    assert told["rows"] == [
        {"bytes": 8388608, "iterations": 5000, "peak": 771.9, "average": 770.42, "unit": "Gb/sec", "mpps": 0.01148}
    ]
    assert told["gate_gbps"] == 385.21


@pytest.mark.parametrize("is_there", [True, False])
def test_a_file_that_cannot_be_opened_is_named_and_nothing_is_printed(read_fabric, tmp_path, is_there):
    missing = tmp_path / "run.txt"
    if is_there:
        missing.mkdir()
    code, told, said = read_fabric(SAMPLES / "perftest_write_bw_gbits.txt", missing)

    assert (code, told) == (2, [])
    assert str(missing) in said


def test_no_file_is_a_usage_error(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["read-fabric"])

    assert ended.value.code == 2
    assert "FILE" in capsys.readouterr().err


def test_the_environment_in_a_file_of_nccl_tests_is_never_printed(read_fabric):
    text = (SAMPLES / "nccl_tests_out.json").read_text()
    code, told, said = read_fabric(SAMPLES / "nccl_tests_out.json")

    assert "hf_secret" in text
    assert (code, "hf_secret" in json.dumps(told) + said) == (0, False)


def test_the_command_reads_without_the_clients_of_clusters_and_hubs():
    """So that it is quick, and runs where nothing else of the project is needed."""
    source = (
        "import sys\nfrom llm_rollout.fabric.reading import read\nread(b'')\n"
        "print([name for name in ('kubernetes', 'httpx', 'huggingface_hub') if name in sys.modules])"
    )
    env = os.environ | {"PYTHONPATH": python_path()}
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True, env=env)

    assert done.stdout == "[]\n"
