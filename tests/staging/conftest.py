"""A hub with one small model in three commits, and a store to stage it onto."""

from __future__ import annotations

import json
import random
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from devcluster.hub.faults import Fault
from devcluster.hub.repository import load
from devcluster.hub.server import Hub
from llm_rollout.adapters.hub import HuggingFaceHub
from llm_rollout.staging import listing, staging

REPO = "acme/small"
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
SHARD_BYTES = 400_000


def shard(tensor: str, content: bytes) -> bytes:
    """A safetensors file with one tensor of bytes."""
    header = json.dumps({tensor: {"dtype": "U8", "shape": [len(content)], "data_offsets": [0, len(content)]}})
    return struct.pack("<Q", len(header)) + header.encode() + content


def _noise(seed: int) -> bytes:
    return random.Random(seed).randbytes(SHARD_BYTES)  # noqa: S311 - the same in every run


def write_commit(folder: Path, seeds: tuple[int, int], weight_map: dict[str, str] | None = None) -> None:
    """A model of two shards, ``weight_map`` in place of the right one."""
    folder.mkdir(parents=True)
    for number, (name, seed) in enumerate(zip(SHARDS, seeds, strict=True)):
        (folder / name).write_bytes(shard(f"layer.{number}", _noise(seed)))
    right = {f"layer.{number}": name for number, name in enumerate(SHARDS)}
    (folder / listing.INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map or right}))
    (folder / "config.json").write_text(json.dumps({"seeds": seeds}))
    (folder / "tokenizer.json").write_text("{}")
    (folder / "empty.txt").touch()
    (folder / "code").mkdir()
    (folder / "code" / "model.py").write_text("# code\n")
    (folder / "original").mkdir()
    (folder / "original" / "consolidated.00.pth").write_bytes(b"x" * 1000)


@pytest.fixture(scope="session")
def model_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("hub")
    write_commit(root / REPO / "v1", (1, 2))
    write_commit(root / REPO / "v2", (1, 3))
    absent = {"layer.0": SHARDS[0], "layer.1": "model-00003-of-00003.safetensors"}
    write_commit(root / REPO / "absent-shard", (1, 4), absent)
    write_commit(root / REPO / "absent-tensor", (1, 5), {"layer.0": SHARDS[0], "layer.9": SHARDS[1]})
    write_commit(root / "acme/other" / "v1", (1, 6))
    return root


@dataclass
class Bench:
    """A running hub, an empty store, and what was emitted."""

    hub: Hub
    root: Path
    store: Path
    lines: list[dict[str, Any]] = field(default_factory=list)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.hub.server_port}"

    def fault(self, match: str, kind: str, **details: Any) -> None:
        self.hub.faults.add([Fault(match, kind, **details)])

    def stage(self, revision: str = "v1", **changes: Any) -> staging.Report:
        wanted = {
            "repo": REPO,
            "revision": revision,
            "store": self.store,
            "endpoint": self.endpoint,
            "token": None,
            "include": (),
            "exclude": listing.DEFAULT_EXCLUDE,
            "connections": 4,
            "give_up_after_seconds": 20.0,
        }
        request = staging.Request(**{**wanted, **changes})
        return staging.stage(request, HuggingFaceHub(), lambda line: self.lines.append(dict(line)))

    def sent_bytes(self, *, of: str = "/") -> int:
        """Bytes of file bodies that the hub has sent, of paths that hold ``of``."""
        counted = self.hub.journal.summary()["bytes"]
        return sum(number for path, number in counted.items() if of in path and "/api/" not in path)

    def published(self, revision: str = "v1", repo: str = REPO) -> Path:
        commit = self.hub.repositories[repo].branches[revision]
        return self.store / "models" / repo.replace("/", "--") / commit

    def same(self, revision: str = "v1", repo: str = REPO) -> bool:
        """Whether the published files are the repository's, byte for byte, without the excluded ones."""
        source, place = self.root / repo / revision, self.published(revision, repo)
        return {name: text for name, text in _tree(source).items() if not name.startswith("original/")} == {
            name: text for name, text in _tree(place).items() if name != listing.MANIFEST
        }

    def nothing_left(self) -> bool:
        """Nothing but content, models and the lock is on the store."""
        return not [path for name in ("partial", ".staging") for path in (self.store / name).iterdir()]


def _tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def bench(model_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    for name in ("HF_TOKEN", "HF_ENDPOINT", "http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    hub = Hub(("127.0.0.1", 0), load(model_root))
    thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    store = tmp_path / "store"
    store.mkdir()
    yield Bench(hub, model_root, store)
    hub.shutdown()
    hub.server_close()
    thread.join()


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests of 64 KiB and a journal entry for each, so that small files take every path of large ones."""
    monkeypatch.setattr("llm_rollout.staging.schedule.SEGMENT_BYTES", 64 * 1024)
    monkeypatch.setattr("llm_rollout.staging.partial.JOURNAL_BYTES", 64 * 1024)
