"""Writes a model directory the way Hugging Face lays it out: config, tokenizer, safetensors shards and their index."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from devcluster.models import tokenizer
from devcluster.models.architecture import EMBEDDING, FINAL_NORM, HEAD, Architecture

Tensors = Mapping[str, NDArray[np.float32]]


def write_checkpoint(directory: Path, arch: Architecture, tensors: Tensors, card: str) -> None:
    """Write ``tensors`` and everything a server needs beside them into ``directory``, which is created."""
    directory.mkdir(parents=True, exist_ok=True)
    _write_shards(directory, arch, tensors)
    _write_json(directory / "config.json", _config(arch))
    _write_json(
        directory / "generation_config.json",
        {"bos_token_id": tokenizer.BOS, "eos_token_id": tokenizer.EOS, "pad_token_id": tokenizer.PAD},
    )
    _write_json(directory / "tokenizer_config.json", tokenizer.tokenizer_config())
    (directory / "tokenizer.json").write_text(tokenizer.tokenizer_json(), encoding="utf-8")
    (directory / "README.md").write_text(card, encoding="utf-8")


def _write_shards(directory: Path, arch: Architecture, tensors: Tensors) -> None:
    from safetensors.numpy import save_file  # noqa: PLC0415

    shards = _shards(arch)
    weight_map: dict[str, str] = {}
    for number, names in enumerate(shards, start=1):
        file_name = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        # The library writes memory as it lies, whatever the order of the axes.
        save_file(
            {name: np.ascontiguousarray(tensors[name]) for name in names},
            directory / file_name,
            metadata={"format": "pt"},
        )
        # The library writes it for the owner alone; hubs and staging jobs may be somebody else.
        (directory / file_name).chmod(0o644)
        weight_map |= dict.fromkeys(names, file_name)
    total = sum(tensor.nbytes for tensor in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    _write_json(directory / "model.safetensors.index.json", index)


def _shards(arch: Architecture) -> list[list[str]]:
    """Return the tensor names of each shard: one for each layer, then what differs between versions."""
    shards = [list(arch.layer_shapes(layer)) for layer in range(arch.num_hidden_layers)]
    shards[0].insert(0, EMBEDDING)
    return [*shards, [FINAL_NORM, HEAD]]


def _config(arch: Architecture) -> dict[str, Any]:
    return asdict(arch) | {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "torch_dtype": "float32",
        "hidden_act": "silu",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "mlp_bias": False,
        "tie_word_embeddings": False,
        "rope_scaling": None,
        "initializer_range": 0.02,
        "use_cache": True,
        "bos_token_id": tokenizer.BOS,
        "eos_token_id": tokenizer.EOS,
        "pad_token_id": tokenizer.PAD,
    }


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")
