"""The command as a Job runs it: its lines and exit codes. What it removes is tested beside ``collection``."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from llm_rollout.cli import main
from llm_rollout.staging import contents, lock
from llm_rollout.staging.listing import MANIFEST, Digest, File
from llm_rollout.staging.store import Store

ROOT = Path(__file__).parents[2]
REPO = "acme/small"
OLDER, NEWER = "a" * 40, "b" * 40


@pytest.fixture
def store(tmp_path):
    """Two commits, published long ago, that share one of their two files."""
    found = Store(tmp_path / "store")
    found.root.mkdir()
    found.prepare()
    for number, commit in enumerate([OLDER, NEWER]):
        files = []
        for path, text in (("config.json", "the same"), ("weights", commit)):
            digest = Digest("sha256", hashlib.sha256(text.encode()).hexdigest())
            data = tmp_path / "data"
            data.write_text(text)
            files.append(File(path, len(text), digest))
            found.adopt(data, files[-1])
        folder = found.publish(REPO, commit, files, number + 1)
        moment = time.time() - (10 - number) * 86400
        os.utime(folder / MANIFEST, (moment, moment))
    return found


def start(store, *flags):
    command = [sys.executable, "-m", "llm_rollout", "gc", f"--store={store.root}", *flags]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "include")}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def ended(process):
    """Exit code and the last line."""
    out, _ = process.communicate(timeout=60)
    return process.returncode, json.loads(out.strip().splitlines()[-1] if out.strip() else "{}")


def test_the_last_line_is_the_report(store):
    code, last = ended(start(store, "--keep=1", "--grace=0"))
    assert code == 0
    assert {**last, "seconds": 0} == {
        "event": "report",
        "dry_run": False,
        "commits_removed": [f"{REPO}@{OLDER}"],
        "commits_kept": 1,
        "roots_absent": [],
        "blobs_removed": 1,
        "partials_removed": 0,
        "bytes_freed": 40,
        "bytes_kept": 48,
        "seconds": 0,
    }
    assert not store.model(REPO, OLDER).exists()
    assert (store.model(REPO, NEWER) / "weights").read_text() == NEWER


@pytest.mark.parametrize(
    ("flags", "removed", "absent"),
    [
        pytest.param([], [], [], id="current and previous stay"),
        pytest.param(["--keep=1"], [OLDER], [], id="content that was linked within the grace stays"),
        pytest.param(["--keep=1", f"--root={REPO}@{OLDER}"], [], [], id="a root"),
        pytest.param(["--keep=0", f"--root={REPO}@{OLDER}"], [NEWER], [], id="roots alone"),
        pytest.param(["--keep=2", f"--root={REPO}@{'c' * 40}"], [], [f"{REPO}@{'c' * 40}"], id="an absent root"),
        pytest.param(["--keep=1", "--grace=2000000"], [], [], id="a long grace"),
    ],
)
def test_flags_say_what_stays(store, flags, removed, absent):
    code, last = ended(start(store, "--dry-run", *flags))
    assert (code, last["dry_run"]) == (0, True)
    assert last["commits_removed"] == [f"{REPO}@{commit}" for commit in removed]
    assert last["roots_absent"] == absent
    assert last["blobs_removed"] == 0
    assert store.model(REPO, OLDER).exists()


@pytest.mark.parametrize(
    "flags",
    [
        ["--keep=-1"],
        ["--keep=x"],
        ["--keep=0"],
        ["--grace=-1"],
        ["--grace=nan"],
        ["--root=acme/small"],
        ["--root=acme/small@main"],
        ["--root=small@" + "a" * 40],
        ["--nope"],
    ],
)
def test_wrong_usage_ends_with_2_and_removes_nothing(store, flags):
    assert ended(start(store, "--grace=0", *flags))[0] == 2
    assert store.model(REPO, OLDER).exists()


def test_a_manifest_that_cannot_be_read_ends_with_3_its_path_and_the_remedy(store):
    (store.model(REPO, NEWER) / MANIFEST).write_text("{")
    code, last = ended(start(store, "--keep=1", "--grace=0"))
    assert (code, last["event"], last["class"]) == (3, "error", "Permanent")
    assert str(store.model(REPO, NEWER) / MANIFEST) in last["message"]
    assert store.model(REPO, OLDER).exists()


def test_without_a_store_it_ends_with_3(store):
    code, last = ended(start(Store(store.root / "nowhere")))
    assert (code, last["class"]) == (3, "Permanent")
    assert "check --store and the mount" in last["message"]


def test_on_a_store_that_may_only_be_read_a_dry_run_works_and_a_collection_says_why_not(store):
    """Bound read-only in a mount namespace of its own."""
    script = f"mount --bind {store.root} {store.root} && mount -o remount,bind,ro {store.root} && exec "
    inside = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    if subprocess.run([*inside, script + "true"], capture_output=True, check=False).returncode:
        pytest.skip("no mount namespaces here")
    command = f"{sys.executable} -m llm_rollout gc --store={store.root} --keep=1 --grace=0"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "include")}
    ends = [
        subprocess.run([*inside, script + command + flag], capture_output=True, text=True, env=environment, check=False)
        for flag in (" --dry-run", "")
    ]
    lines = [json.loads(end.stdout.splitlines()[-1]) for end in ends]
    assert [end.returncode for end in ends] == [0, 3]
    assert lines[0]["commits_removed"] == [f"{REPO}@{OLDER}"]
    assert "cannot be written: Read-only file system" in lines[1]["message"]


def test_a_store_that_is_taken_over_meanwhile_ends_with_4_and_loses_nothing(store, monkeypatch, capsys):
    """Between reading and deleting, another process takes the lock, and the beat notices."""
    read = contents.read

    def overtaken(found):
        seen = read(found)
        (found.lock / "00000002").write_text("somebody else")
        (found.lock / "00000001").unlink()
        time.sleep(0.5)
        return seen

    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.01)
    monkeypatch.setattr(contents, "read", overtaken)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    code = main(["gc", f"--store={store.root}", "--keep=1", "--grace=0"])
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (code, last["class"]) == (4, "Transient")
    assert "took the store over" in last["message"]
    assert store.model(REPO, OLDER).exists()


def test_ended_by_a_signal_it_releases_the_lock(store):
    with lock.held(store.lock, lambda _holder: None):
        process = start(store)
        assert "waiting_for" in json.loads(process.stdout.readline())
        process.terminate()
        assert ended(process)[0] == 143
    code, _ = ended(start(store))
    assert code == 0
