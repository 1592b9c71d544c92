"""Model directories for the corpus: the devcluster's own model, and copies of it spoiled in one way each."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from devcluster.models.architecture import EMBEDDING, FINAL_NORM, HEAD, Architecture

SHARD = "model-00002-of-00005.safetensors"
INDEX = "model.safetensors.index.json"
LARGE = Architecture(
    hidden_size=2048, intermediate_size=8192, num_hidden_layers=40, num_attention_heads=32, num_key_value_heads=8
)
"""Holes instead of weights: it takes no room on disk, and seconds to load."""
_LFS_POINTER = """version https://git-lfs.github.com/spec/v1
oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393
size 2629632
"""
_CUSTOM_CODE = {"AutoConfig": "configuration_own.OwnConfig", "AutoModelForCausalLM": "modeling_own.OwnForCausalLM"}


def configured(**changes: Any) -> Callable[[Path], None]:
    """Change fields of ``config.json``; None removes one."""

    def spoil(model: Path) -> None:
        config = json.loads((model / "config.json").read_text()) | changes
        kept = {name: value for name, value in config.items() if value is not None}
        (model / "config.json").write_text(json.dumps(kept, indent=2))

    return spoil


def written(name: str, content: str | bytes) -> Callable[[Path], None]:
    """Write other content into a file."""
    data = content.encode() if isinstance(content, str) else content
    return lambda model: _write(model / name, data)


def removed(*names: str) -> Callable[[Path], None]:
    """Remove files."""

    def spoil(model: Path) -> None:
        for name in names:
            (model / name).unlink()

    return spoil


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def _truncate(model: Path) -> None:
    data = (model / SHARD).read_bytes()
    (model / SHARD).write_bytes(data[: len(data) // 2])


def _no_weights(model: Path) -> None:
    removed(*(path.name for path in model.glob("*.safetensors")), INDEX)(model)


def _ghost_shard(model: Path) -> None:
    index = json.loads((model / INDEX).read_text())
    index["weight_map"]["model.norm.weight"] = "model-00006-of-00006.safetensors"
    (model / INDEX).write_text(json.dumps(index))


def _fewer_tensors(model: Path) -> None:
    """Drop two tensors of a shard, from the index too."""
    gone = {"model.layers.1.mlp.down_proj.weight", "model.layers.1.input_layernorm.weight"}
    header, data = _read(model / SHARD)
    _save(model / SHARD, {name: entry for name, entry in header.items() if name not in gone}, data)
    index = json.loads((model / INDEX).read_text())
    index["weight_map"] = {name: file for name, file in index["weight_map"].items() if name not in gone}
    (model / INDEX).write_text(json.dumps(index))


def _other_names(model: Path) -> None:
    header, data = _read(model / SHARD)
    _save(model / SHARD, {name.replace("self_attn", "attention"): entry for name, entry in header.items()}, data)


def _emptied(model: Path) -> None:
    """Leave the folder, and nothing in it."""
    for path in model.iterdir():
        path.unlink()


def _more_tensors(model: Path) -> None:
    """Add a tensor that no such model has."""
    header, data = _read(model / SHARD)
    header["model.layers.1.adapter.weight"] = next(entry for name, entry in header.items() if name != "__metadata__")
    _save(model / SHARD, header, data)


def _huge_header(model: Path) -> None:
    data = (model / SHARD).read_bytes()
    (model / SHARD).write_bytes(struct.pack("<Q", 1 << 40) + data[8:])


def _zeros(model: Path) -> None:
    (model / SHARD).write_bytes(bytes((model / SHARD).stat().st_size))


def _dangling(model: Path) -> None:
    """A link into a cache whose blob is gone."""
    (model / SHARD).unlink()
    (model / SHARD).symlink_to("../../blobs/4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393")


def _pickled_garbage(model: Path) -> None:
    _no_weights(model)
    (model / "pytorch_model.bin").write_bytes(b"\x80\x02garbage" * 5000)


def _unknown_dtype(model: Path) -> None:
    header, data = _read(model / SHARD)
    for name, entry in header.items():
        if name != "__metadata__":
            entry["dtype"] = "F33"
    _save(model / SHARD, header, data)


def _read(shard: Path) -> tuple[dict[str, Any], bytes]:
    data = shard.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def _save(shard: Path, header: dict[str, Any], data: bytes) -> None:
    """Write a shard with the data in the header's order and without gaps."""
    parts, entries, end = [], {}, 0
    for name, entry in header.items():
        if name == "__metadata__":
            entries[name] = entry
            continue
        begin, stop = entry["data_offsets"]
        parts.append(data[begin:stop])
        entries[name] = entry | {"data_offsets": [end, end + stop - begin]}
        end += stop - begin
    text = json.dumps(entries).encode()
    shard.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(parts))


def large(model: Path) -> None:
    """Replace the weights by holes of a model of 5 GB, one shard for each layer."""
    _no_weights(model)
    shards = [LARGE.layer_shapes(layer) for layer in range(LARGE.num_hidden_layers)]
    shards[0][EMBEDDING] = (LARGE.vocab_size, LARGE.hidden_size)
    shards.append({FINAL_NORM: (LARGE.hidden_size,), HEAD: (LARGE.vocab_size, LARGE.hidden_size)})
    weight_map: dict[str, str] = {}
    for number, shapes in enumerate(shards, start=1):
        name = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        _hole(model / name, shapes)
        weight_map |= dict.fromkeys(shapes, name)
    (model / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    fields = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
    configured(**{field: getattr(LARGE, field) for field in fields}, torch_dtype="bfloat16")(model)


def _hole(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> None:
    entries, end = {}, 0
    for name, shape in shapes.items():
        size = 2
        for axis in shape:
            size *= axis
        entries[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(entries).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)


SPOILED: Mapping[str, Callable[[Path], None]] = {
    "good": lambda model: None,  # noqa: ARG005 - as it is
    "good-locked": lambda model: None,  # noqa: ARG005 - the play takes the permissions
    "good-closed": lambda model: None,  # noqa: ARG005
    "large": large,
    "no-config": removed("config.json"),
    "broken-config": written("config.json", '{"architectures": ["LlamaForCausalLM"], "hidden_size": 51'),
    "unknown-architecture": configured(architectures=["LlamaPlusForCausalLM"]),
    "unknown-model-type": configured(model_type="llama9"),
    "head-size": configured(head_dim=16),
    "unknown-quantization": configured(quantization_config={"quant_method": "int3_magic"}),
    "gpu-quantization": configured(quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True}),
    "custom-code": configured(model_type="own", auto_map=_CUSTOM_CODE),
    "unknown-dtype": configured(torch_dtype="float33"),
    "missing-field": configured(num_attention_heads=None, hidden_size=None),
    "negative-layers": configured(num_hidden_layers="four"),
    "missing-shard": removed(SHARD),
    "no-weights": _no_weights,
    "empty-shard": written(SHARD, b""),
    "garbage-shard": written(SHARD, b"<html><body>502 Bad Gateway</body></html>" * 2000),
    "lfs-pointer": written(SHARD, _LFS_POINTER),
    "truncated-shard": _truncate,
    "ghost-shard": _ghost_shard,
    "broken-index": written(INDEX, '{"metadata": {}, "weight_'),
    "fewer-tensors": _fewer_tensors,
    "other-names": _other_names,
    "unknown-tensor-dtype": _unknown_dtype,
    "other-shapes": configured(intermediate_size=320),
    "fewer-layers": configured(num_hidden_layers=3),
    "more-layers": configured(num_hidden_layers=6),
    "no-tokenizer": removed("tokenizer.json", "tokenizer_config.json"),
    "broken-tokenizer": written("tokenizer.json", '{"version": "1.0", "model": {"type": "BPE", "vocab"'),
    "empty-folder": _emptied,
    "empty-config": written("config.json", ""),
    "config-of-nothing": written("config.json", "{}"),
    "config-is-a-list": written("config.json", "[]"),
    "no-architectures": configured(architectures=None),
    "odd-heads": configured(num_attention_heads=3),
    "other-vocabulary": configured(vocab_size=5000),
    "rope-without-factor": configured(rope_scaling={"rope_type": "yarn"}),
    "unknown-rope": configured(rope_scaling={"rope_type": "spiral", "factor": 2.0}),
    "empty-index": written(INDEX, "{}"),
    "more-tensors": _more_tensors,
    "huge-header": _huge_header,
    "zeros-for-a-shard": _zeros,
    "dangling-link": _dangling,
    "pickled-garbage": _pickled_garbage,
    "tokenizer-of-nothing": written("tokenizer.json", "{}"),
    "binary-tokenizer": written("tokenizer.json", bytes(range(256)) * 100),
    "tokenizer-file-missing": removed("tokenizer.json"),
    "other-tokenizer": written("tokenizer_config.json", '{"tokenizer_class": "OwnTokenizer"}'),
}  # fmt: skip


def make(name: str, base: Path, folder: Path) -> Path:
    """The model of that name in ``folder``, made from ``base`` when it is missing."""
    model = folder / name
    if not model.exists():
        shutil.copytree(base, model)
        SPOILED[name](model)
    return model
