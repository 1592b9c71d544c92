from __future__ import annotations

import json
import os

import pytest

from llm_rollout.cli import main

REPO = "acme/small"
SHARD = "model-00002-of-00002.safetensors"


@pytest.fixture
def staged(bench):
    bench.stage()
    return bench


@pytest.fixture
def verify(staged, capsys):
    def run(commit=None):
        code = main(
            ["verify", f"--repo={REPO}", f"--commit={commit or staged.published().name}", f"--store={staged.store}"]
        )
        return code, json.loads(capsys.readouterr().out.splitlines()[-1])

    return run


def test_what_was_staged_is_as_it_was_staged(verify):
    code, report = verify()
    assert (code, report["missing"], report["mismatches"], report["files"]) == (0, [], [], 7)


@pytest.mark.parametrize("name", [SHARD, "config.json"])
def test_one_flipped_bit_is_found(staged, verify, name):
    path = staged.published() / name
    path.chmod(0o644)
    with path.open("r+b") as stream:
        first = stream.read(1)[0]
        stream.seek(0)
        stream.write(bytes([first ^ 1]))
    code, report = verify()
    assert (code, report["mismatches"], report["missing"]) == (3, [name], [])


def test_a_file_that_is_cut_short_or_gone_is_named(staged, verify):
    (staged.published() / "config.json").unlink()
    (staged.published() / SHARD).chmod(0o644)
    os.truncate(staged.published() / SHARD, 10)
    code, report = verify()
    assert (code, report["mismatches"], report["missing"]) == (3, [SHARD], ["config.json"])


@pytest.mark.parametrize(("commit", "why"), [("main", "40 hex digits"), ("0" * 40, "is not published")])
def test_what_is_not_there_is_said_with_what_to_do(verify, commit, why):
    code, error = verify(commit)
    assert (code, error["event"]) == (3, "error")
    assert why in error["message"]
