"""The forward pass of a Llama in numpy, a run of decoder layers at a time, with a key-value cache.

The same code fits the tiny models (float64) and serves them (float32). A pass over some tokens gives the same bits
whether the layers before it ran in this process or in another one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from devcluster.models.architecture import EMBEDDING, FINAL_NORM, HEAD, Architecture

Array = NDArray[np.floating[Any]]
_FIRST_ROOM = 64


class LayerCache:
    """Keys and values of one sequence in one layer; room doubles as the sequence grows."""

    def __init__(self, arch: Architecture, dtype: Any) -> None:
        """Make room for the first tokens."""
        shape = (arch.num_key_value_heads, _FIRST_ROOM, arch.head_dim)
        self._keys: Array = np.empty(shape, dtype)
        self._values: Array = np.empty(shape, dtype)

    def extend(self, start: int, keys: Array, values: Array) -> tuple[Array, Array]:
        """Put keys and values ([heads, tokens, dim]) at position ``start``; return all up to their end."""
        end = start + keys.shape[1]
        while end > self._keys.shape[1]:
            self._keys = np.concatenate([self._keys, np.empty_like(self._keys)], axis=1)
            self._values = np.concatenate([self._values, np.empty_like(self._values)], axis=1)
        self._keys[:, start:end] = keys
        self._values[:, start:end] = values
        return self._keys[:, :end], self._values[:, :end]


class Layer:
    """One decoder layer: grouped-query attention with rotary positions, then a gated MLP."""

    def __init__(self, arch: Architecture, index: int, weights: Mapping[str, Array], dtype: Any) -> None:
        """Take the layer's tensors from ``weights``; projections that read the same input are fused."""
        self._arch = arch

        def tensor(name: str) -> Array:
            return np.asarray(weights[f"model.layers.{index}.{name}.weight"], dtype)

        self._input_norm = tensor("input_layernorm")
        self._qkv = np.concatenate([tensor(f"self_attn.{name}_proj") for name in "qkv"])
        self._out = tensor("self_attn.o_proj")
        self._mlp_norm = tensor("post_attention_layernorm")
        self._gate_up = np.concatenate([tensor("mlp.gate_proj"), tensor("mlp.up_proj")])
        self._down = tensor("mlp.down_proj")

    def run(self, hidden: Array, start: int, rotation: tuple[Array, Array], cache: LayerCache) -> Array:
        """Return the hidden states ([tokens, hidden]) after this layer."""
        eps = self._arch.rms_norm_eps
        hidden = hidden + self._attend(rms_norm(hidden, self._input_norm, eps), start, rotation, cache)
        gate, up = np.split(rms_norm(hidden, self._mlp_norm, eps) @ self._gate_up.T, 2, axis=1)
        result: Array = hidden + (_silu(gate) * up) @ self._down.T
        return result

    def _attend(self, hidden: Array, start: int, rotation: tuple[Array, Array], cache: LayerCache) -> Array:
        arch, tokens = self._arch, hidden.shape[0]
        kv_heads, dim = arch.num_key_value_heads, arch.head_dim
        group = arch.num_attention_heads // kv_heads
        heads = (hidden @ self._qkv.T).reshape(tokens, -1, dim).transpose(1, 0, 2)
        rotated = _rotate(heads[:-kv_heads], rotation)
        queries = rotated[:-kv_heads].reshape(kv_heads, group * tokens, dim)
        keys, values = cache.extend(start, rotated[-kv_heads:], heads[-kv_heads:])
        scores = (queries @ keys.transpose(0, 2, 1)) * hidden.dtype.type(dim**-0.5)
        scores = scores.reshape(kv_heads, group, tokens, -1)
        if tokens > 1:
            scores[:, :, np.triu(np.ones(scores.shape[2:], bool), start + 1)] = -np.inf
        mixed = _softmax(scores).reshape(kv_heads, group * tokens, -1) @ values
        joined = mixed.reshape(arch.num_attention_heads, tokens, dim).transpose(1, 0, 2).reshape(tokens, -1)
        result: Array = joined @ self._out.T
        return result


class Stage:
    """Some consecutive decoder layers: what one rank of a pipeline holds."""

    def __init__(
        self, arch: Architecture, layers: Sequence[int], weights: Mapping[str, Array], dtype: Any = np.float32
    ) -> None:
        """Take the tensors of ``layers`` from ``weights``."""
        self._arch = arch
        self._dtype = dtype
        self._layers = [Layer(arch, index, weights, dtype) for index in layers]
        half = np.arange(0, arch.head_dim, 2, dtype=np.float64) / arch.head_dim
        self._frequencies = arch.rope_theta**-half

    def new_cache(self) -> list[LayerCache]:
        """Return an empty cache for one sequence."""
        return [LayerCache(self._arch, self._dtype) for _ in self._layers]

    def run(self, hidden: Array, start: int, cache: list[LayerCache]) -> Array:
        """Return hidden states after these layers for tokens at positions ``start`` and on."""
        angles = np.arange(start, start + hidden.shape[0])[:, None] * self._frequencies
        rotation = (np.cos(angles).astype(self._dtype), np.sin(angles).astype(self._dtype))
        for layer, kept in zip(self._layers, cache, strict=True):
            hidden = layer.run(hidden, start, rotation, kept)
        return hidden


class Embedding:
    """The first step: token ids to hidden states."""

    def __init__(self, weights: Mapping[str, Array], dtype: Any = np.float32) -> None:
        """Take the embedding table from ``weights``."""
        self._table = np.asarray(weights[EMBEDDING], dtype)

    def run(self, ids: Sequence[int]) -> Array:
        """Return the hidden states ([tokens, hidden]) of ``ids``."""
        result: Array = self._table[np.asarray(ids)]
        return result


class Head:
    """The last step: hidden states to logits."""

    def __init__(self, arch: Architecture, weights: Mapping[str, Array], dtype: Any = np.float32) -> None:
        """Take the final norm and the output projection from ``weights``."""
        self._norm = np.asarray(weights[FINAL_NORM], dtype)
        self._projection = np.asarray(weights[HEAD], dtype)
        self._eps = arch.rms_norm_eps

    def run(self, hidden: Array) -> Array:
        """Return logits ([tokens, vocabulary])."""
        result: Array = rms_norm(hidden, self._norm, self._eps) @ self._projection.T
        return result


def rms_norm(hidden: Array, weight: Array, eps: float) -> Array:
    """Scale each row to a root mean square of one, then by ``weight``."""
    mean = np.mean(hidden * hidden, axis=-1, keepdims=True)
    result: Array = hidden / np.sqrt(mean + hidden.dtype.type(eps)) * weight
    return result


def _rotate(heads: Array, rotation: tuple[Array, Array]) -> Array:
    cosine, sine = rotation
    first, second = np.split(heads, 2, axis=-1)
    return np.concatenate([first * cosine - second * sine, second * cosine + first * sine], axis=-1)


def _softmax(scores: Array) -> Array:
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    result: Array = powers / powers.sum(axis=-1, keepdims=True)
    return result


def _silu(gate: Array) -> Array:
    # The clip keeps exp from overflowing; beyond it the value is zero in float32 anyway.
    result: Array = gate / (1 + np.exp(-np.clip(gate, -80, None)))
    return result
