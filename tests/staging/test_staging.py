"""Whole stagings against a real hub protocol, with faults."""

from __future__ import annotations

import errno
import os
import threading

import pytest

from llm_rollout.errors import Permanent, Transient
from llm_rollout.staging import store as store_module
from llm_rollout.staging.listing import INDEX
from llm_rollout.staging.store import NoSpace, read_manifest

REPO = "acme/small"
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
SHARD_BYTES = 400_000

BLOBS = "/lfs/*"


def test_a_commit_is_published_whole_and_every_byte_is_the_repositorys(bench):
    report = bench.stage()
    assert bench.same()
    assert bench.nothing_left()
    assert report.path == str(bench.published())
    assert report.files == 7
    assert report.bytes_fetched == report.bytes_total == bench.sent_bytes()
    assert report.bytes_reused == 0


def test_the_manifest_names_every_file_with_its_digest(bench):
    bench.stage()
    manifest = read_manifest(bench.published())
    assert manifest["commit"] == bench.published().name
    assert {entry["path"] for entry in manifest["files"]} >= {"config.json", *SHARDS}
    assert all(entry["digest"].startswith(("sha256:", "git-sha1:")) for entry in manifest["files"])


def test_staged_again_nothing_is_fetched_and_nothing_is_touched(bench):
    bench.stage()
    before = {path: path.stat() for path in bench.store.rglob("*")}
    bench.hub.journal.clear()
    report = bench.stage()
    assert bench.sent_bytes() == 0
    assert (report.bytes_fetched, report.bytes_reused) == (0, report.bytes_total)
    assert {path: path.stat() for path in bench.store.rglob("*")} == before


def test_a_second_revision_fetches_only_what_changed(bench):
    bench.stage("v1")
    bench.hub.journal.clear()
    report = bench.stage("v2")
    assert bench.same("v2")
    assert SHARD_BYTES < bench.sent_bytes() < 1.1 * SHARD_BYTES
    assert report.bytes_fetched + report.bytes_reused == report.bytes_total


def test_another_repository_shares_content(bench):
    bench.stage("v1")
    bench.stage("v1", repo="acme/other")
    first, second = (bench.published(repo=repo) / SHARDS[0] for repo in (REPO, "acme/other"))
    assert first.samefile(second)


def test_files_on_the_store_cannot_be_written_by_accident(bench):
    bench.stage()
    assert {path.stat().st_mode & 0o777 for path in bench.published().rglob("*.safetensors")} == {0o444}


@pytest.mark.usefixtures("small_parts")
def test_many_requests_a_file_bring_the_same_bytes(bench):
    report = bench.stage(connections=8)
    assert bench.same()
    assert report.bytes_fetched == report.bytes_total
    assert bench.hub.journal.summary()["total"] > 2 * SHARD_BYTES // (64 * 1024)


@pytest.mark.parametrize(
    ("kind", "details"),
    [
        ("drop_after", {"bytes": 0, "times": 3}),
        ("drop_after", {"bytes": 100_000, "times": 3}),
        ("truncate", {"bytes": 100_000, "times": 3}),
        ("corrupt", {"bytes": 200_000, "times": 1}),
        ("corrupt", {"bytes": 200_000, "times": 2}),
        ("ignore_range", {"times": None}),
        ("slow", {"bytes_per_second": 2_000_000, "times": None}),
    ],
)
@pytest.mark.parametrize("parts", ["large_parts", "small_parts"])
def test_a_fault_of_the_body_ends_verified(bench, request, kind, details, parts):
    if parts == "small_parts":
        request.getfixturevalue(parts)
    bench.fault(BLOBS, kind, **details)
    bench.stage()
    assert bench.same()
    assert bench.nothing_left()


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504, 408])
def test_a_status_that_may_pass_is_tried_again(bench, status):
    bench.fault(BLOBS, "status", status=status, times=3)
    bench.stage()
    assert bench.same()


@pytest.mark.parametrize("status", [403, 401, 404, 410])
def test_an_address_that_has_expired_is_asked_for_anew(bench, status):
    bench.fault(BLOBS, "status", status=status, times=2)
    bench.stage()
    assert bench.same()
    resolved = bench.hub.journal.summary()["counts"]
    assert sum(count for path, count in resolved.items() if "/resolve/" in path and SHARDS[0] in path) >= 1


def test_retry_after_is_honoured(bench):
    bench.fault(BLOBS, "status", status=429, retry_after=2, times=1)
    assert bench.stage().seconds >= 2
    assert bench.same()


def test_a_stalled_connection_is_opened_anew(bench):
    bench.fault(BLOBS, "stall", bytes=50_000, seconds=3, times=1)
    bench.stage(give_up_after_seconds=1.0)
    assert bench.same()


def test_wrong_bytes_at_the_source_are_named_and_nothing_is_published(bench):
    bench.fault(BLOBS, "corrupt", bytes=1_000, times=None)
    with pytest.raises(
        Permanent, match=r"model-0000\d-of-00002\.safetensors arrived with wrong content 3 times"
    ) as said:
        bench.stage()
    assert "expected sha256:" in str(said.value)
    assert "found sha256:" in str(said.value)
    assert not bench.published().exists()


@pytest.mark.parametrize(
    ("match", "kind", "details", "cause"),
    [
        (BLOBS, "status", {"status": 500}, "answered 500"),
        (BLOBS, "drop_after", {"bytes": 0}, "ended at byte 0|broke off"),
        (BLOBS, "truncate", {"bytes": 0}, "another Content-Range|ended at byte 0|another length"),
        (BLOBS, "stall", {"bytes": 0, "seconds": 3}, "no byte for 0.5 s"),
        ("/api/*", "status", {"status": 500}, "answered 500"),
    ],
)
def test_a_fault_that_does_not_pass_ends_transient_with_its_cause(bench, match, kind, details, cause):
    bench.fault(match, kind, times=None, **details)
    with pytest.raises(Transient, match=cause):
        bench.stage(give_up_after_seconds=0.5)
    assert not bench.published().exists()


@pytest.mark.parametrize(
    ("fault", "revision", "repo", "message"),
    [
        (("/api/*", "gated"), "v1", REPO, "is gated"),
        ((f"{REPO}/config.json", "gated"), "v1", REPO, "answered 403 for config.json"),
        (None, "nope", REPO, "'nope' does not exist"),
        (None, "v1", "acme/nothing", "is not there, or private"),
        (None, "v1", "noname", "write organisation/name"),
        (None, "v1", "../../x", "write organisation/name"),
        (None, "absent-shard", REPO, r"names 1 shards .*model-00003-of-00003"),
        (None, "absent-tensor", REPO, "lacks 1 tensors .* 'layer.9'"),
    ],
)
def test_what_cannot_be_had_is_said_once_and_nothing_is_published(bench, fault, revision, repo, message):
    if fault:
        bench.fault(*fault, times=None)
    with pytest.raises(Permanent, match=message):
        bench.stage(revision, repo=repo)
    assert not (bench.store / "models").exists() or not [*(bench.store / "models").rglob("config.json")]


def test_an_absent_shard_shows_before_any_shard_is_fetched(bench):
    with pytest.raises(Permanent, match=INDEX):
        bench.stage("absent-shard")
    assert bench.sent_bytes(of="/lfs/") == 0


def test_a_branch_that_moves_meanwhile_does_not_mix_commits(bench):
    """The branch moves between the listing and the files."""
    bench.hub.branches.move(REPO, "main", "v1")
    bench.fault(BLOBS, "slow", bytes_per_second=1_000_000, times=None)
    mover = threading.Timer(0.2, lambda: bench.hub.branches.move(REPO, "main", "v2"))
    mover.start()
    report = bench.stage("main")
    mover.join()
    assert report.commit == bench.published("v1").name
    assert bench.same("v1")


def test_too_little_space_is_said_with_both_numbers_before_the_first_byte(bench, monkeypatch):
    monkeypatch.setattr(store_module, "RESERVE_BYTES", 1 << 60)
    with pytest.raises(NoSpace, match=r"has \d+ bytes free, \d+ are needed"):
        bench.stage()
    assert bench.sent_bytes() == 0


@pytest.mark.usefixtures("small_parts")
def test_a_disk_that_fills_up_keeps_what_has_arrived(bench, monkeypatch):
    written, whole = 0, os.pwrite

    def pwrite(handle, block, position):
        nonlocal written
        if written > SHARD_BYTES:
            raise OSError(errno.ENOSPC, "No space left on device")
        written += len(block)
        return whole(handle, block, position)

    with monkeypatch.context() as full:
        full.setattr(os, "pwrite", pwrite)
        with pytest.raises(NoSpace, match="is full"):
            bench.stage()
    report = bench.stage()
    assert report.bytes_reused > SHARD_BYTES / 2
    assert bench.same()


def test_a_store_that_cannot_be_written_is_named(bench):
    (bench.store / "blobs").write_text("in the way")
    with pytest.raises(Permanent, match="cannot be written"):
        bench.stage()


def test_where_links_fail_relative_links_lead_to_the_same_content(bench, monkeypatch):
    def refuse(_place, _target):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr("pathlib.Path.hardlink_to", refuse)
    bench.stage()
    assert bench.same()
    links = [path for path in bench.published().rglob("*") if path.is_symlink()]
    assert len(links) == 7
    moved = bench.store.rename(bench.store.with_name("moved"))
    assert (moved / bench.published().relative_to(bench.store) / "code/model.py").read_text() == "# code\n"


def test_a_published_commit_that_lost_a_file_is_made_whole(bench):
    bench.stage()
    (bench.published() / SHARDS[1]).unlink()
    bench.hub.journal.clear()
    bench.stage()
    assert bench.same()
    assert bench.sent_bytes() == 0


def test_a_blob_that_was_cut_short_is_fetched_again(bench):
    bench.stage()
    blob = bench.published() / SHARDS[1]
    blob.chmod(0o644)
    os.truncate(blob, 100)
    bench.stage()
    assert bench.same()


def test_another_choice_of_files_adds_to_what_is_published(bench):
    bench.stage(include=("*.json", "*.safetensors"))
    assert not (bench.published() / "empty.txt").exists()
    bench.stage(exclude=("code/*", "original/*"))
    assert (bench.published() / "empty.txt").exists()
    bench.stage(include=("config.json", "tokenizer.json", INDEX, "model-*"))
    assert (bench.published() / "empty.txt").exists()


def test_remains_of_a_killed_process_go(bench):
    bench.stage("v1")
    (bench.store / ".staging/00000009/x").mkdir(parents=True)
    for algorithm in ("sha256", "git-sha1"):
        whole = next((bench.store / "blobs" / algorithm).rglob("*/*"))
        (bench.store / f"partial/{algorithm}-{whole.name}").mkdir()
    bench.stage("v2")
    assert bench.nothing_left()


def test_two_threads_of_work_fetch_once(bench):
    reports = []
    threads = [threading.Thread(target=lambda: reports.append(bench.stage())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert bench.same()
    assert bench.sent_bytes() == reports[0].bytes_total
    assert sorted(report.bytes_fetched for report in reports)[:2] == [0, 0]


def test_progress_says_how_far_it_is_and_when_it_will_end(bench, monkeypatch):
    monkeypatch.setattr("llm_rollout.staging.staging.REPORT_EVERY_SECONDS", 0.1)
    bench.fault(BLOBS, "slow", bytes_per_second=200_000, times=None)
    bench.stage()
    lines = [line for line in bench.lines if line["event"] == "progress"]
    done = [line["bytes_done"] for line in lines]
    assert len(lines) > 3
    assert done == sorted(done)
    assert lines[-1]["bytes_done"] == lines[-1]["bytes_total"]
    assert any(line["eta_seconds"] and line["bytes_per_second"] > 0 for line in lines)
    assert any(0 < part < 1 for line in lines for part in line["files"].values())


def test_an_unreadable_manifest_counts_as_none(bench):
    bench.stage()
    (bench.published() / ".manifest.json").write_text("{")
    bench.stage()
    assert bench.same()
    assert read_manifest(bench.published())["repo"] == REPO
