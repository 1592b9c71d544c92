"""The command as a Job runs it: its lines, exit codes and what it keeps to itself."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from devcluster.hub import models
from devcluster.hub.faults import Fault
from devcluster.hub.repository import load
from devcluster.hub.server import Hub
from llm_rollout.staging import lock

ROOT = Path(__file__).parents[2]
TOKEN = "hf_the-token-that-nobody-sees"


@pytest.fixture(scope="module")
def tiny_models():
    return models.bundled()


@pytest.fixture
def hub(tiny_models):
    server = Hub(("127.0.0.1", 0), load(tiny_models))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def start(hub, tmp_path):
    """Start the command with the flags given."""
    started = []

    def run(*flags, **environment):
        command = [sys.executable, "-m", "llm_rollout", "stage", "--repo=devcluster/tiny-chat", "--revision=v1"]
        place = [f"--store={tmp_path}", f"--endpoint=http://127.0.0.1:{hub.server_port}"]
        clean = {key: value for key, value in os.environ.items() if not key.lower().endswith(("_proxy", "hf_token"))}
        process = subprocess.Popen(
            [*command, *place, *flags],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**clean, "PYTHONPATH": str(ROOT / "include"), **environment},
        )
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


def ended(process):
    """Exit code, the last line, everything that was printed."""
    out, err = process.communicate(timeout=60)
    last = out.strip().splitlines()[-1] if out.strip() else "{}"
    return process.returncode, json.loads(last), out + err


def test_the_last_line_is_the_report(start, tmp_path):
    code, last, _ = ended(start())
    assert code == 0
    assert set(last) == {
        "event", "commit", "path", "files", "bytes_total", "bytes_fetched", "bytes_reused", "seconds",
    }  # fmt: skip
    assert (Path(last["path"]) / "config.json").exists()
    assert Path(last["path"]).is_relative_to(tmp_path)


def test_again_it_fetches_nothing(start):
    ended(start())
    code, last, _ = ended(start())
    assert (code, last["bytes_fetched"], last["bytes_reused"]) == (0, 0, last["bytes_total"])


def test_the_flag_wins_over_the_environment(start):
    code, _, _ = ended(start(HF_ENDPOINT="http://127.0.0.1:9"))
    assert code == 0


@pytest.mark.parametrize(
    ("flags", "fault", "code", "kind"),
    [
        (["--revision=nope"], None, 3, "Permanent"),
        (["--repo=devcluster/nope"], None, 3, "Permanent"),
        (["--repo=nope"], None, 3, "Permanent"),
        ([], Fault("/api/*", "gated", times=None), 3, "Permanent"),
        ([], Fault("/lfs/*", "corrupt", times=None), 3, "Permanent"),
        (["--give-up-after=0.5"], Fault("/lfs/*", "status", times=None), 4, "Transient"),
        (["--give-up-after=0.5", "--endpoint=http://127.0.0.1:9"], None, 4, "Transient"),
        (["--store=/dev/full/x"], None, 3, "Permanent"),
    ],
)
def test_each_end_has_its_exit_code_and_a_line_with_the_remedy(start, hub, flags, fault, code, kind):
    hub.faults.add([fault] if fault else [])
    found, last, _ = ended(start(*flags))
    assert (found, last["event"], last["class"]) == (code, "error", kind)
    assert last["message"]
    assert last["remedy"]


@pytest.mark.parametrize("flags", [["--connections=0"], ["--connections=x"], ["--give-up-after=-1"], ["--nope"]])
def test_wrong_usage_ends_with_2(start, flags):
    assert ended(start(*flags))[0] == 2


def test_the_token_opens_the_gate_and_is_shown_nowhere(start, hub, tmp_path):
    hub.faults.add([Fault("*", "gated", times=None, token=TOKEN)])
    code, _, printed = ended(start(HF_TOKEN=TOKEN))
    assert code == 0
    assert TOKEN not in printed
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()]


@pytest.mark.parametrize("token", [f"{TOKEN} {TOKEN}", f"{TOKEN}\u00fc"])
def test_a_broken_token_is_refused_without_showing_it(start, token):
    code, last, printed = ended(start(HF_TOKEN=token))
    assert (code, last["class"]) == (3, "Permanent")
    assert TOKEN not in printed


def test_killed_and_run_again_it_ends_verified_and_soon(start, hub):
    hub.faults.add([Fault("/lfs/*", "slow", times=None, bytes_per_second=4_000_000)])
    first = start()
    deadline = time.monotonic() + 30
    while hub.journal.summary()["total"] < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    first.kill()
    first.communicate()
    hub.faults.clear()
    began = time.monotonic()
    code, _, _ = ended(start())
    assert code == 0
    assert time.monotonic() - began < lock.STALE_SECONDS, "the dead one's lock was waited for"


def test_ended_by_a_signal_it_keeps_what_has_arrived(start, hub):
    hub.faults.add([Fault("/lfs/*", "slow", times=None, bytes_per_second=2_000_000)])
    first = start()
    line = json.loads(first.stdout.readline())
    assert 0 < line["bytes_done"] < line["bytes_total"]
    first.terminate()
    code, _, printed = ended(first)
    assert code == 143, printed
    hub.faults.clear()
    code, last, _ = ended(start())
    assert code == 0
    assert last["bytes_reused"] >= line["bytes_done"] / 2


def test_ended_by_a_signal_while_the_hub_says_nothing(start):
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        first = start(f"--endpoint=http://127.0.0.1:{deaf.getsockname()[1]}")
        with deaf.accept()[0]:
            first.terminate()
            code, _, printed = ended(first)
    assert (code, printed) == (143, "")


def test_ended_by_a_signal_while_another_process_holds_the_store(start, tmp_path):
    with lock.held(tmp_path / ".lock", lambda _holder: None):
        first = start()
        assert "waiting_for" in json.loads(first.stdout.readline())
        first.terminate()
        code, _, printed = ended(first)
    assert (code, printed) == (143, "")
