"""The random part of the tiny models: seeded weights whose last hidden states are rich features of recent tokens.

The first layer's heads look back by 1 to 8 tokens, each by its own fixed distance (rotary positions make that a
constant query against a constant key). The random projections and MLPs that follow mix what was seen there, so that
a linear readout can tell nearly any two contexts apart.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from devcluster.models.architecture import EMBEDDING, FINAL_NORM, Architecture

_SEED = 20240607
_CONSTANT = 3.0
"""Value of channel 0, the same for every token: what the looking-back heads' queries and keys are made of."""
_SHARPNESS = 2.2
_SHARP_FREQUENCIES = 13
_REACH = (1.0, 1.0, 1.0, 1.0, 1.0, 0.5, 0.4, 0.3)
"""Weight of what each head saw, by distance: the last five tokens hold a whole task."""


def random_body(arch: Architecture) -> dict[str, NDArray[np.float32]]:
    """Return every tensor but the output head; the same bytes each time."""
    random = np.random.default_rng(_SEED)
    embedding = random.standard_normal((arch.vocab_size, arch.hidden_size))
    embedding[:, 0] = _CONSTANT
    body = {EMBEDDING: embedding, FINAL_NORM: np.ones(arch.hidden_size)}
    for layer in range(arch.num_hidden_layers):
        body |= _layer(arch, layer, random)
    return {name: tensor.astype(np.float32) for name, tensor in body.items()}


def _layer(arch: Architecture, layer: int, random: np.random.Generator) -> dict[str, NDArray[np.float64]]:
    tensors = {}
    for name, shape in arch.layer_shapes(layer).items():
        if len(shape) == 1:
            tensors[name] = np.ones(shape)
        else:
            tensors[name] = random.standard_normal(shape) * (_gain(name, layer) / np.sqrt(shape[1]))
    prefix = f"model.layers.{layer}"
    for name in ("self_attn.o_proj", "mlp.down_proj"):
        tensors[f"{prefix}.{name}.weight"][0] = 0.0
    if layer == 0:
        tensors[f"{prefix}.self_attn.o_proj.weight"] *= np.repeat(_REACH, arch.head_dim)
        tensors[f"{prefix}.self_attn.q_proj.weight"] = _looking_back(arch, range(1, arch.num_attention_heads + 1))
        tensors[f"{prefix}.self_attn.k_proj.weight"] = _looking_back(arch, [0] * arch.num_key_value_heads)
    return tensors


def _gain(name: str, layer: int) -> float:
    if "o_proj" in name:
        return 2.0 if layer == 0 else 0.2
    if "gate_proj" in name or "up_proj" in name:
        return 1.5
    return 2.0 if "down_proj" in name else 1.0


def _looking_back(arch: Architecture, distances: range | list[int]) -> NDArray[np.float64]:
    """Return a projection of channel 0 whose dot product with the one for 0 peaks ``distances`` tokens earlier."""
    half = arch.head_dim // 2
    frequencies = arch.rope_theta ** -(np.arange(half) * 2 / arch.head_dim)
    size = np.where(np.arange(half) < _SHARP_FREQUENCIES, _SHARPNESS, 0.0)
    projection = np.zeros((len(distances) * arch.head_dim, arch.hidden_size))
    for head, distance in enumerate(distances):
        angles = -distance * frequencies
        rotated = np.concatenate([np.cos(angles) - np.sin(angles), np.cos(angles) + np.sin(angles)])
        projection[head * arch.head_dim : (head + 1) * arch.head_dim, 0] = rotated * np.tile(size, 2)
    return projection
