"""The real client is the judge of the protocol."""

import threading

import httpx
import pytest
from huggingface_hub import snapshot_download

from devcluster.hub import xet
from devcluster.hub.repository import load
from devcluster.hub.xet import XetHub

REPO = "devcluster/fixture"
LARGE = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "tokenizer.json")


@pytest.fixture
def hub(model_root, tmp_path, monkeypatch):
    monkeypatch.setattr(xet, "XORB_CHUNKS", 2)
    monkeypatch.setattr(xet, "CHUNK_BYTES", 10_000)
    monkeypatch.setenv("HF_XET_CACHE", str(tmp_path / "xet"))
    server = XetHub(("127.0.0.1", 0), load(model_root), tmp_path / "xorbs")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def requests(hub, path):
    return [key for key in hub.journal.summary()["counts"] if path in key]


def test_the_hubs_own_client_fetches_large_files_over_xet_and_gets_the_same_bytes(hub, model_root, tmp_path):
    url = f"http://127.0.0.1:{hub.server_port}"
    snapshot_download(REPO, revision="v2", endpoint=url, local_dir=tmp_path / "out", cache_dir=tmp_path / "cache")
    for name in LARGE:
        assert (tmp_path / "out" / name).read_bytes() == (model_root / REPO / "v2" / name).read_bytes()
    assert len(requests(hub, "/xorbs/")) == len(LARGE)
    assert requests(hub, "/lfs/") == []


@pytest.mark.parametrize("token", ["", "hf_the-token-of-the-hub"])
def test_the_content_store_takes_only_tokens_that_it_gave_out(hub, token):
    sha256 = next(iter(hub.blobs))
    address = f"http://127.0.0.1:{hub.server_port}/v1/reconstructions/{xet.xet_hash(sha256)}"
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    assert httpx.get(address, headers=headers, trust_env=False).status_code == 401
    fresh, _ = hub.new_token()
    assert httpx.get(address, headers={"Authorization": f"Bearer {fresh}"}, trust_env=False).status_code == 200
