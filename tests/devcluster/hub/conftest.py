import random
import threading
from pathlib import Path

import pytest

from devcluster.hub.repository import load
from devcluster.hub.server import Hub

REPO = "devcluster/fixture"


def _noise(seed: int, size_bytes: int) -> bytes:
    return random.Random(seed).randbytes(size_bytes)  # noqa: S311 - the same bytes in every run


def _write(folder: Path, seed: int) -> None:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(f'{{"architectures": ["LlamaForCausalLM"], "seed": {seed}}}')
    (folder / "tokenizer.json").write_bytes(b"t" * 70_000)
    (folder / "model-00001-of-00002.safetensors").write_bytes(_noise(0, 300_000))
    (folder / "model-00002-of-00002.safetensors").write_bytes(_noise(seed, 200_000))
    (folder / "extra").mkdir()
    (folder / "extra/notes.txt").write_text("small\n")


@pytest.fixture(scope="session")
def model_root(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    for seed, branch in enumerate(["v1", "v2"]):
        _write(root / REPO / branch, seed)
    return root


@pytest.fixture
def start_hub(model_root):
    hubs = []

    def start(**options):
        hub = Hub(("127.0.0.1", 0), load(model_root), **options)
        thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        hubs.append((hub, thread))
        return hub

    yield start
    for hub, thread in hubs:
        hub.shutdown()
        hub.server_close()
        thread.join()


@pytest.fixture
def hub(start_hub):
    return start_hub()


@pytest.fixture
def url(hub):
    return f"http://127.0.0.1:{hub.server_port}"
