"""A model of 812 GB, as a sparse replica: planned, compared and header-checked without reading its weights."""

from __future__ import annotations

import pytest

from benchmarks.staging import replica
from llm_rollout.errors import Permanent
from llm_rollout.staging import listing, staging
from llm_rollout.staging.store import Store


def stage(store, hub) -> staging.Report:
    request = staging.Request(
        repo=replica.REPO,
        revision="main",
        store=store,
        endpoint="http://127.0.0.1:9",
        token=None,
        include=(),
        exclude=listing.DEFAULT_EXCLUDE,
        connections=4,
        give_up_after_seconds=0.0,
    )
    return staging.stage(request, hub, lambda _: None)


def shard(store, hub, number):
    file = hub.resolve("", "", "").files[number]
    return Store(store).blob(listing.Digest("sha256", file.sha256))


def test_content_that_is_there_is_published_without_a_byte_fetched(tmp_path):
    report = stage(tmp_path, replica.fill(tmp_path))
    assert (report.files, report.bytes_fetched) == (194, 0)
    assert 811e9 < report.bytes_total == report.bytes_reused < 813e9
    assert len([*Store(tmp_path).model(replica.REPO, replica.COMMIT).glob("*.safetensors")]) == 191


def test_a_shard_that_speaks_of_other_bytes_than_it_has_stops_it(tmp_path):
    hub = replica.fill(tmp_path)
    with shard(tmp_path, hub, 100).open("r+b") as stream:
        stream.write((7).to_bytes(8, "little"))
    with pytest.raises(Permanent, match=r"model-00101-of-00191\.safetensors is not safetensors"):
        stage(tmp_path, hub)
    assert not Store(tmp_path).model(replica.REPO, replica.COMMIT).exists()
