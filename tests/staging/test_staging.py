"""Whole stagings against a real hub protocol, with faults."""

from __future__ import annotations

import errno
import os
from operator import attrgetter

import pytest

from llm_rollout.errors import Permanent
from llm_rollout.staging.listing import INDEX, MANIFEST
from llm_rollout.staging.store import read_manifest

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


def written(store, but):
    """What every file and folder of a store is, except when it was last read: looking changes that."""
    facts = attrgetter("st_ino", "st_mode", "st_size", "st_mtime_ns", "st_ctime_ns")
    return {path: facts(path.stat()) for path in store.rglob("*") if path != but}


def test_staged_again_nothing_is_fetched_and_only_the_manifests_time_is_new(bench):
    bench.stage()
    manifest = bench.published() / MANIFEST
    os.utime(manifest, (1, 1))
    before = written(bench.store, manifest)
    text = manifest.read_text()
    bench.hub.journal.clear()
    report = bench.stage()
    assert bench.sent_bytes() == 0
    assert (report.bytes_fetched, report.bytes_reused) == (0, report.bytes_total)
    assert written(bench.store, manifest) == before
    assert manifest.read_text() == text
    assert manifest.stat().st_mtime > 1


@pytest.mark.parametrize("number", [errno.EROFS, errno.EPERM, errno.EACCES])
def test_a_published_commit_on_a_store_that_may_only_be_read_is_staged(bench, monkeypatch, number):
    def refuse(_path):
        raise OSError(number, "refused")

    bench.stage()
    monkeypatch.setattr(os, "utime", refuse)
    report = bench.stage()
    assert report.bytes_fetched == 0


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


def test_an_absent_shard_shows_before_any_shard_is_fetched(bench):
    with pytest.raises(Permanent, match=INDEX):
        bench.stage("absent-shard")
    assert bench.sent_bytes(of="/lfs/") == 0


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
