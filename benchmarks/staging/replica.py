"""A sparse replica of a 405B model's layout: 191 shards and 1,137 tensors, 812 GB that take no room on the disk.

Shapes are those of Llama 3.1 405B in BF16 (126 layers of 16,384 with an inner width of 53,248, 8 key and value heads
of 128, 128,256 words), its shards filled in the same order up to the same count. Digests are made up: they stand for
content that is on the store already.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

from llm_rollout.ports import HubCommit, HubFile
from llm_rollout.staging.listing import INDEX, Digest
from llm_rollout.staging.store import Store

REPO, COMMIT = "acme/sparse-405b", "405b" * 10
_LAYERS, _WIDTH, _INNER, _HEADS, _WORDS = 126, 16_384, 53_248, 1_024, 128_256
_SHARDS = 191
Shape = tuple[int, ...]


class SparseHub:
    """``ports.Hub`` with this one commit."""

    def __init__(self, files: tuple[HubFile, ...]) -> None:
        """Answer with ``files``."""
        self._commit = HubCommit(COMMIT, files)

    def resolve(self, repo: str, revision: str, endpoint: str) -> HubCommit:
        """The commit, whatever is asked for."""
        del repo, revision, endpoint
        return self._commit


def fill(root: Path) -> SparseHub:
    """Put all content of the replica into the store at ``root``, unpublished."""
    store, files = Store(root), []
    shards = _shards()
    for number, tensors in enumerate(shards, 1):
        name = f"model-{number:05d}-of-{_SHARDS:05d}.safetensors"
        files.append(_sparse(store, name, _header(tensors), sum(map(_bytes, tensors.values()))))
    names = {
        tensor: f"model-{n:05d}-of-{_SHARDS:05d}.safetensors" for n, shard in enumerate(shards, 1) for tensor in shard
    }
    small = {INDEX: json.dumps({"weight_map": names}), "config.json": "{}", "tokenizer.json": '{"model": {}}'}
    files += [_whole(store, name, text.encode()) for name, text in small.items()]
    return SparseHub(tuple(files))


def _tensors() -> Iterator[tuple[str, Shape]]:
    yield "model.embed_tokens.weight", (_WORDS, _WIDTH)
    for layer in range(_LAYERS):
        for part, shape in {
            "input_layernorm": (_WIDTH,),
            "mlp.down_proj": (_WIDTH, _INNER),
            "mlp.gate_proj": (_INNER, _WIDTH),
            "mlp.up_proj": (_INNER, _WIDTH),
            "post_attention_layernorm": (_WIDTH,),
            "self_attn.k_proj": (_HEADS, _WIDTH),
            "self_attn.o_proj": (_WIDTH, _WIDTH),
            "self_attn.q_proj": (_WIDTH, _WIDTH),
            "self_attn.v_proj": (_HEADS, _WIDTH),
        }.items():
            yield f"model.layers.{layer}.{part}.weight", shape
    yield "model.norm.weight", (_WIDTH,)
    yield "lm_head.weight", (_WORDS, _WIDTH)


def _shards() -> list[dict[str, Shape]]:
    total = sum(_bytes(shape) for _, shape in _tensors())
    shards: list[dict[str, Shape]] = [{} for _ in range(_SHARDS)]
    before = 0
    for tensor, shape in _tensors():
        shards[min(_SHARDS - 1, before * _SHARDS // total)][tensor] = shape
        before += _bytes(shape)
    return shards


def _bytes(shape: Shape) -> int:
    return 2 * math.prod(shape)


def _header(tensors: Mapping[str, Shape]) -> bytes:
    entries, position = {}, 0
    for tensor, shape in tensors.items():
        end = position + _bytes(shape)
        entries[tensor] = {"dtype": "BF16", "shape": shape, "data_offsets": [position, end]}
        position = end
    text = json.dumps(entries).encode()
    return len(text).to_bytes(8, "little") + text


def _sparse(store: Store, name: str, start: bytes, rest_bytes: int) -> HubFile:
    file = HubFile(name, len(start) + rest_bytes, sha256=hashlib.sha256(name.encode()).hexdigest(), git_sha1=None)
    path = _place(store, file)
    with path.open("wb") as stream:
        stream.write(start)
        stream.truncate(file.size_bytes)
    return file


def _whole(store: Store, name: str, content: bytes) -> HubFile:
    file = HubFile(name, len(content), sha256=hashlib.sha256(content).hexdigest(), git_sha1=None)
    _place(store, file).write_bytes(content)
    return file


def _place(store: Store, file: HubFile) -> Path:
    path = store.blob(Digest("sha256", file.sha256 or ""))
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
