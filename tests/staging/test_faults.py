"""Each fault of the table ends verified or in the named error, and nothing corrupt is ever published.

A row runs the command as a Job does; then the fault is lifted, the command runs again, and fetches only what it must.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from devcluster.hub.faults import BODY_KINDS, KINDS, Fault
from llm_rollout.cli import main
from llm_rollout.commands.job_lines import EXIT_NO_SPACE, EXIT_PERMANENT
from llm_rollout.staging.listing import INDEX
from llm_rollout.staging.store import Store
from llm_rollout.staging.verification import verify
from tests.staging.fault_table import (
    ANY,
    BROKEN,
    LASTING,
    ONE,
    PASSING,
    REPO,
    SHARD_BYTES,
    SHARDS,
    TOKEN,
    Row,
)  # fmt: skip


@pytest.fixture(scope="module")
def model_root(model_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Also a repository whose commits are as broken at their source as their digests say."""
    root = tmp_path_factory.mktemp("broken-hub") / "root"
    shutil.copytree(model_root, root)
    for revision in ("index-is-none", "cut-shard", "no-header"):
        shutil.copytree(root / REPO / "v1", root / BROKEN / revision)
    (root / BROKEN / "index-is-none" / INDEX).write_text("[]")
    os.truncate(root / BROKEN / "cut-shard" / SHARDS[1], SHARD_BYTES // 2)
    (root / BROKEN / "no-header" / SHARDS[1]).write_bytes(b"\xff" * SHARD_BYTES)
    return root


@dataclass
class Command:
    """Runs the command in this process and keeps all that it printed."""

    bench: Any
    capsys: pytest.CaptureFixture[str]
    monkeypatch: pytest.MonkeyPatch
    printed: str = ""
    flags: list[str] = field(default_factory=list)

    def __call__(self, row: Row) -> tuple[int, dict[str, Any]]:
        self.monkeypatch.setenv("HF_TOKEN", row.token)
        self.monkeypatch.setenv("HF_ENDPOINT", self.bench.endpoint)
        place = [f"--store={self.bench.store}", f"--endpoint={self.bench.endpoint}", "--connections=4"]
        code = main(["stage", f"--repo={row.repo}", f"--revision={row.revision}", *place, *self.flags])
        said = self.capsys.readouterr()
        self.printed += said.out + said.err
        return code, json.loads(said.out.splitlines()[-1])


@pytest.fixture
def command(bench, capsys, monkeypatch) -> Iterator[Command]:
    before = signal.getsignal(signal.SIGTERM)
    yield Command(bench, capsys, monkeypatch)
    signal.signal(signal.SIGTERM, before)


BODY_ROWS = [row for row in PASSING if any(fault.kind in BODY_KINDS for fault in row.faults)]


@pytest.mark.parametrize(
    ("parts", "row"),
    [*(("small_parts", row) for row in PASSING), *(("large_parts", row) for row in BODY_ROWS)],
    ids=str,
)
def test_a_fault_that_passes_ends_verified(bench, command, monkeypatch, request, row, parts):
    if parts == "small_parts":
        request.getfixturevalue(parts)
    bench.hub.faults.add([_fresh(fault) for fault in row.faults])
    if row.spoil is not None:
        row.spoil(bench, monkeypatch)
    command.flags = ["--give-up-after=20"] if row.name != "stalled" else ["--give-up-after=1"]
    began = time.monotonic()
    code, last = command(row)
    assert (code, last["event"]) == (0, "report"), last
    assert time.monotonic() - began >= row.seconds
    assert bench.published().name == last["commit"]
    assert bench.same()
    assert bench.nothing_left()
    assert _found_wrong(bench) == []
    assert TOKEN not in command.printed


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("row", LASTING, ids=str)
def test_a_fault_that_stays_ends_in_the_named_error_and_the_next_run_fetches_the_rest(bench, command, row):
    bench.hub.faults.add([_fresh(fault) for fault in row.faults])
    command.flags = ["--give-up-after=0.5"]
    with pytest.MonkeyPatch.context() as spoiled:
        if row.spoil is not None:
            row.spoil(bench, spoiled)
        code, last = command(row)
    assert (code, last["event"]) == (row.ends, "error"), last
    assert re.search(row.says, last["message"]), last["message"]
    assert SHARDS[1] in last["message"] or ONE not in {fault.match for fault in row.faults}, last["message"]
    assert last["remedy"]
    assert TOKEN not in command.printed
    assert "***" not in command.printed or row.masked, "what a server wrote must not get as far as the mask"
    assert bench.hub.journal.settle(within_seconds=20)
    assert not (row.fetches_nothing and bench.sent_bytes())
    assert not (bench.store / "models").exists() or not [*(bench.store / "models").glob("*/*")]
    if row.mends:
        _mend(bench, command, row)


def _mend(bench: Any, command: Command, row: Row) -> None:
    bench.hub.faults.clear()
    bench.hub.journal.clear()
    command.flags = ["--give-up-after=20"]
    code, last = command(row)
    assert code == 0, last
    assert bench.same()
    assert bench.nothing_left()
    assert bench.hub.journal.settle(within_seconds=20)
    assert row.again_least_bytes <= bench.sent_bytes() <= row.most_again_bytes
    assert bench.sent_bytes() == last["bytes_fetched"]


def _fresh(fault: Fault) -> Fault:
    """Faults are spent: each test has its own. A date counts from now, in whole seconds."""
    date = formatdate(time.time() + 3, usegmt=True) if fault.retry_after == "in 3 s" else fault.retry_after
    return replace(fault, retry_after=date)


def _found_wrong(bench: Any) -> list[str]:
    found = verify(Store(bench.store), REPO, bench.published().name, lambda _line: None)
    return [*found.missing, *found.mismatches]


FILLS_UP = """
mount -t tmpfs -o size=20m none "$STORE"
stage & staging=$!
until ls "$STORE/partial" 2> /dev/null | grep -q sha256; do sleep 0.01; done
head -c 30M /dev/zero > "$STORE/filler" 2> /dev/null || true
code=0; wait $staging || code=$?
printf '{"code": %s}\n' $code
rm "$STORE/filler"
stage
"$PYTHON" -m llm_rollout verify --repo=acme/small --commit="$COMMIT" --store="$STORE"
"""
READ_ONLY = """
mount -t tmpfs -o size=40m none "$STORE"
stage
mount -o remount,ro "$STORE"
stage
code=0; stage --revision=v2 || code=$?
printf '{"code": %s}\n' $code
"""


@pytest.fixture
def with_mounts(bench):
    """Run a script that may mount: as nobody in particular, in namespaces of its own that end with it."""

    def run(script: str) -> list[dict[str, Any]]:
        stage = (
            f'"$PYTHON" -m llm_rollout stage --repo={REPO} --revision=v1 --store="$STORE" --endpoint="$ENDPOINT" "$@"'
        )
        done = subprocess.run(
            ["unshare", "--map-root-user", "--mount", "sh", "-euc", f"stage() {{ {stage}; }}\n{script}"],
            env={
                "PATH": os.environ["PATH"],
                "PYTHON": sys.executable,
                "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
                "STORE": str(bench.store),
                "ENDPOINT": bench.endpoint,
                "COMMIT": bench.published().name,
            },
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return [line for line in map(json.loads, done.stdout.splitlines()) if line.get("event") != "progress"]

    may_mount = 'mount -t tmpfs none "$1"'
    probe = ["unshare", "--map-root-user", "--mount", "sh", "-c", may_mount, "sh", str(bench.store)]
    if shutil.which("unshare") is None or subprocess.run(probe, capture_output=True, check=False).returncode != 0:
        pytest.skip("this system lets its users mount nothing: the rows with failing calls stand for it")
    return run


def test_a_real_disk_that_fills_up_is_named_and_the_next_run_goes_on(bench, with_mounts):
    bench.fault(ANY, "slow", bytes_per_second=200_000, times=None)
    error, ended, report, verified = with_mounts(FILLS_UP)
    assert ended == {"code": EXIT_NO_SPACE}
    assert "is full" in error["message"]
    assert report["event"] == "report"
    assert (verified["missing"], verified["mismatches"]) == ([], [])
    assert report["bytes_reused"] > 0


def test_a_store_that_is_mounted_to_be_read_serves_what_it_has_and_takes_nothing_new(with_mounts):
    first, again, error, ended = with_mounts(READ_ONLY)
    assert (again["bytes_fetched"], again["path"]) == (0, first["path"])
    assert ended == {"code": EXIT_PERMANENT}
    assert "Read-only file system; check the mount" in error["message"]


def test_the_table_has_every_fault_that_the_hub_can_show():
    shown = {fault.kind for row in [*PASSING, *LASTING] for fault in row.faults}
    assert shown == set(KINDS)
