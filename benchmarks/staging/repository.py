"""The repository that is staged: safetensors of random bytes, so that nothing on the way can compress them."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path

_BLOCK_BYTES = 16 * 1024 * 1024


def write(folder: Path, shards: int, shard_bytes: int) -> None:
    """A model of ``shards`` files, each with one tensor of ``shard_bytes``."""
    folder.mkdir(parents=True)
    names = [f"model-{number:05d}-of-{shards:05d}.safetensors" for number in range(1, shards + 1)]
    for name in names:
        _write_shard(folder / name, name, shard_bytes)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {name: name for name in names}}))
    (folder / "config.json").write_text("{}")
    (folder / "tokenizer.json").write_text("{}")


def _write_shard(path: Path, tensor: str, size_bytes: int) -> None:
    header = json.dumps({tensor: {"dtype": "U8", "shape": [size_bytes], "data_offsets": [0, size_bytes]}}).encode()
    block = os.urandom(min(_BLOCK_BYTES, size_bytes))
    with path.open("wb") as stream:
        stream.write(struct.pack("<Q", len(header)) + header)
        for start in range(0, size_bytes, len(block)):
            # Each block differs in its first bytes: no two shards are the same content.
            stream.write((os.urandom(16) + block[16:])[: size_bytes - start])
