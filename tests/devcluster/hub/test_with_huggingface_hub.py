"""The real client is the judge of the protocol."""

import pytest
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from devcluster.hub.faults import KINDS

REPO = "devcluster/fixture"
FILES = {
    "config.json",
    "extra/notes.txt",
    "model-00001-of-00002.safetensors",
    "model-00002-of-00002.safetensors",
    "tokenizer.json",
}


@pytest.fixture
def api(url):
    return HfApi(endpoint=url, token=False)


def _same(folder, expected):
    found = {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and ".cache" not in path.parts
    }
    assert found == {name: (expected / name).read_bytes() for name in FILES}


def test_snapshot_into_a_local_directory_equals_the_source(url, model_root, tmp_path):
    snapshot_download(REPO, revision="v2", endpoint=url, local_dir=tmp_path / "out", cache_dir=tmp_path / "cache")
    _same(tmp_path / "out", model_root / REPO / "v2")


def test_second_revision_in_the_cache_fetches_only_what_changed(hub, url, model_root, tmp_path):
    for branch in ("v1", "v2"):
        folder = snapshot_download(REPO, revision=branch, endpoint=url, cache_dir=tmp_path)
    found = {name: (tmp_path.__class__(folder) / name).read_bytes() for name in FILES}
    assert found == {name: (model_root / REPO / "v2" / name).read_bytes() for name in FILES}
    bodies = {key: count for key, count in hub.journal.summary()["counts"].items() if key.startswith("GET /lfs/")}
    assert len(bodies) == 4
    assert set(bodies.values()) == {1}


def test_model_info_lists_sizes_and_digests(api, hub):
    info = api.model_info(REPO, revision="v1", files_metadata=True)
    assert info.sha == hub.repositories[REPO].branches["v1"]
    by_name = {file.rfilename: file for file in info.siblings}
    assert set(by_name) == FILES
    assert by_name["model-00001-of-00002.safetensors"].lfs.size == 300_000
    assert by_name["tokenizer.json"].lfs is not None
    assert by_name["config.json"].lfs is None
    assert len(by_name["config.json"].blob_id) == 40


def test_tree_is_paged_and_complete(start_hub):
    hub = start_hub(page_entries=2)
    api = HfApi(endpoint=f"http://127.0.0.1:{hub.server_port}", token=False)
    entries = list(api.list_repo_tree(REPO, revision="v1", recursive=True))
    assert {entry.path for entry in entries} == FILES | {"extra"}
    assert hub.journal.summary()["total"] == 3


def test_tree_without_recursion_shows_one_level(api):
    assert {entry.path for entry in api.list_repo_tree(REPO, path_in_repo="extra")} == {"extra/notes.txt"}
    assert "extra/notes.txt" not in {entry.path for entry in api.list_repo_tree(REPO)}


def test_checksums_of_a_download_verify_and_a_spoiled_file_is_found(api, url, tmp_path):
    snapshot_download(REPO, revision="v1", endpoint=url, local_dir=tmp_path)
    assert not api.verify_repo_checksums(REPO, revision="v1", local_dir=tmp_path).mismatches
    with (tmp_path / "model-00001-of-00002.safetensors").open("r+b") as stream:
        stream.write(b"spoiled")
    assert len(api.verify_repo_checksums(REPO, revision="v1", local_dir=tmp_path).mismatches) == 1


def test_moved_branch_resolves_to_the_other_commit(api, hub):
    before = api.resolve_revision(REPO, revision="main").resolved
    hub.branches.move(REPO, "main", "v2")
    after = api.resolve_revision(REPO, revision="main").resolved
    assert (before, after) == (hub.repositories[REPO].branches["v1"], hub.repositories[REPO].branches["v2"])


def test_unknown_repository_revision_and_gate_have_their_own_errors(api, hub):
    with pytest.raises(RepositoryNotFoundError):
        api.model_info("devcluster/absent")
    with pytest.raises(RevisionNotFoundError):
        api.model_info(REPO, revision="absent")
    hub.faults.add([_fault("*", "gated", token="right")])
    with pytest.raises(GatedRepoError):
        api.model_info(REPO)


def test_right_token_opens_the_gate(api, hub):
    hub.faults.add([_fault("*", "gated", times=None, token="right")])
    assert api.model_info(REPO, token="right").id == REPO


def test_client_resumes_after_a_dropped_connection(hub, url, model_root, tmp_path):
    hub.faults.add([_fault("*00001-of*", "drop_after", bytes=100_000)])
    snapshot_download(REPO, revision="v1", endpoint=url, local_dir=tmp_path, max_workers=1)
    _same(tmp_path, model_root / REPO / "v1")


def test_client_reports_a_truncated_file(hub, url, tmp_path):
    hub.faults.add([_fault("*00001-of*", "truncate", times=None, bytes=1000)])
    with pytest.raises(OSError, match="Consistency check failed"):
        snapshot_download(REPO, revision="v1", endpoint=url, local_dir=tmp_path)


def test_client_follows_signed_addresses_to_another_origin(hub, url, model_root, tmp_path):
    hub.faults.add([_fault("*/resolve/*", "signed", times=None)])
    snapshot_download(REPO, revision="v1", endpoint=url, local_dir=tmp_path, token="hf_x")
    _same(tmp_path, model_root / REPO / "v1")
    assert any(path.startswith("/signed/") for path in hub.journal.parts())


def test_client_gives_up_on_a_signed_address_that_has_expired(hub, url, tmp_path):
    hub.faults.add([_fault("*/resolve/*", "signed", times=None, seconds=-1)])
    with pytest.raises(HfHubHTTPError, match="403"):
        snapshot_download(REPO, revision="v1", endpoint=url, local_dir=tmp_path)


@pytest.mark.parametrize("kind", ["wrong_range", "misplaced", "wrong_total"])
def test_client_that_asks_for_no_range_does_not_see_range_faults(hub, url, model_root, tmp_path, kind):
    hub.faults.add([_fault("*", kind, times=None, bytes=1)])
    snapshot_download(REPO, revision="v1", endpoint=url, local_dir=tmp_path)
    _same(tmp_path, model_root / REPO / "v1")


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_client_downloads_well_once_a_fault_is_switched_off(hub, url, model_root, tmp_path, kind):
    hub.faults.add([_fault("*", kind, times=None, bytes=10, seconds=0.1)])
    hub.faults.clear()
    snapshot_download(REPO, revision="v1", endpoint=url, local_dir=tmp_path)
    _same(tmp_path, model_root / REPO / "v1")


def test_client_shows_an_error_status_of_the_api(hub, url, tmp_path):
    hub.faults.add([_fault("/api/*", "status", status=429, retry_after=1)])
    with pytest.raises(LocalEntryNotFoundError):
        snapshot_download(REPO, revision="main", endpoint=url, local_dir=tmp_path)


def _fault(match, kind, **fields):
    from devcluster.hub.faults import parse  # noqa: PLC0415

    return parse({"match": match, "kind": kind, **fields})
