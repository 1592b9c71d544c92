from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time

import pytest

from devcluster.controlplane import python_path
from llm_rollout.staging import lock

HOLD = """
import pathlib, sys, time
from llm_rollout.staging import lock
with lock.held(pathlib.Path(sys.argv[1]), print):
    print("held", flush=True)
    time.sleep(60)
"""


def quiet(_holder):
    pass


@pytest.fixture
def other_process(tmp_path):
    """Another process that holds the lock."""
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": python_path()}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_one_at_a_time_and_the_number_grows(tmp_path):
    inside, most, numbers = 0, 0, []

    def work():
        nonlocal inside, most
        for _ in range(3):
            with lock.held(tmp_path, quiet) as holding:
                inside += 1
                most = max(most, inside)
                numbers.append(holding.number)
                time.sleep(0.01)
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert numbers == sorted(set(numbers))
    assert len(numbers) == 12
    assert len(list(tmp_path.iterdir())) == 1


def test_a_waiting_process_hears_who_holds_it(tmp_path, other_process):
    heard = threading.Event()
    texts = []

    def waiting(holder):
        texts.append(holder)
        heard.set()
        other_process.kill()

    with lock.held(tmp_path, waiting):
        assert heard.is_set()
    assert texts[0] == f"process {other_process.pid} on {os.uname().nodename}"


def test_a_killed_holder_on_this_machine_is_seen_at_once(tmp_path, other_process):
    other_process.kill()
    other_process.wait()
    began = time.monotonic()
    with lock.held(tmp_path, quiet) as holding:
        assert time.monotonic() - began < lock.STALE_SECONDS / 3
        assert holding.number == 2


def test_a_holder_elsewhere_whose_beat_stands_still_is_taken_over(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "STALE_SECONDS", 0.8)
    elsewhere = {"token": "x", "host": "node-9", "process": ["another boot", 7, "1"], "beat": 3}
    (tmp_path / "00000005").write_text(json.dumps(elsewhere))
    began = time.monotonic()
    with lock.held(tmp_path, quiet) as holding:
        assert holding.number == 6
    assert time.monotonic() - began >= 0.8


def test_a_holder_elsewhere_that_beats_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "STALE_SECONDS", 0.8)
    place, stop = tmp_path / "00000005", threading.Event()

    def write(count):
        place.write_text(json.dumps({"host": "node-9", "process": ["another boot", 7, "1"], "beat": count}))

    def beat():
        count = 0
        while not stop.wait(0.1):
            count += 1
            write(count)
        place.write_text(lock.RELEASED)

    write(0)

    beating = threading.Thread(target=beat)
    beating.start()
    threading.Timer(2.4, stop.set).start()
    began = time.monotonic()
    with lock.held(tmp_path, quiet):
        assert time.monotonic() - began >= 2.3
    beating.join()


def test_a_holder_that_was_taken_over_may_write_no_more(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.05)
    with lock.held(tmp_path, quiet) as holding:
        (tmp_path / "00000002").write_text("somebody else")
        (tmp_path / "00000001").unlink()
        assert holding.lost.wait(60)
        with pytest.raises(lock.LockLost, match="took the store over"):
            holding.refuse_if_lost()
    assert (tmp_path / "00000002").read_text() == "somebody else"


def test_what_goes_wrong_after_a_takeover_is_said_to_be_the_takeover(tmp_path):
    """The look at the lock is enough: the next beat may be seconds away."""

    def swept_away():
        with lock.held(tmp_path, quiet):
            (tmp_path / "00000001").rename(tmp_path / "00000002")
            raise FileNotFoundError

    with pytest.raises(lock.LockLost, match="took the store over"):
        swept_away()
    assert [path.name for path in tmp_path.iterdir()] == ["00000002"]


def test_what_goes_wrong_while_the_lock_is_held_is_left_as_it_is(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing to do with it"), lock.held(tmp_path, quiet):
        raise FileNotFoundError("nothing to do with it")
    assert (tmp_path / "00000001").read_text() == lock.RELEASED
