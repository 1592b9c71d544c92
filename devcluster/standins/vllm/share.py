"""One rank's share of the model: its layers, and the key-value caches of the sequences that are running."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass

import numpy as np

from devcluster.models.architecture import EMBEDDING, HEAD, Architecture
from devcluster.models.llama import Array, Embedding, Head, LayerCache, Stage
from devcluster.standins.vllm.weights import layers_of


@dataclass(frozen=True)
class Chunk:
    """Some tokens of one sequence that go through the model together."""

    sequence: int
    start: int
    tokens: int
    every_logits: bool
    """Whether logits are wanted after each token, or after the last alone."""

    def packed(self) -> tuple[int, int, int, bool]:
        """Return the fields as they go over the wire."""
        return astuple(self)


class Share:
    """The layers of one rank. Chunks are computed one by one, so that neighbours never change a result's bits."""

    def __init__(self, arch: Architecture, weights: dict[str, Array], rank: int, ranks: int) -> None:
        """Take this rank's tensors from ``weights``; the first rank can embed, the last can say logits."""
        self._hidden_size = arch.hidden_size
        self._stage = Stage(arch, layers_of(rank, ranks, arch.num_hidden_layers), weights)
        self._embedding = Embedding(weights) if EMBEDDING in weights else None
        self._head = Head(arch, weights) if HEAD in weights else None
        self._caches: dict[int, list[LayerCache]] = {}

    @property
    def is_last(self) -> bool:
        """Whether this rank says the logits."""
        return self._head is not None

    def embed(self, tokens: Sequence[int]) -> Array:
        """Return the hidden states of ``tokens``; first rank only."""
        if self._embedding is None:
            raise RuntimeError("only the first rank embeds")
        return self._embedding.run(tokens)

    def run(self, chunks: Sequence[Chunk], hidden: Array) -> Array:
        """Return the hidden states ([all tokens, hidden]) after this rank's layers."""
        results, at = [], 0
        for chunk in chunks:
            if chunk.start == 0:
                self._caches[chunk.sequence] = self._stage.new_cache()
            cache = self._caches[chunk.sequence]
            results.append(self._stage.run(hidden[at : at + chunk.tokens], chunk.start, cache))
            at += chunk.tokens
        return np.concatenate(results)

    def logits(self, chunks: Sequence[Chunk], hidden: Array) -> Array:
        """Return the wanted rows of logits, chunk after chunk; last rank only."""
        if self._head is None:
            raise RuntimeError("only the last rank says logits")
        rows: list[Array] = []
        at = 0
        for chunk in chunks:
            at += chunk.tokens
            first = at - chunk.tokens if chunk.every_logits else at - 1
            rows.extend(self._head.run(hidden[row : row + 1]) for row in range(first, at))
        return np.concatenate(rows)

    def release(self, sequences: Iterable[int]) -> None:
        """Forget the caches of ``sequences``."""
        for sequence in sequences:
            self._caches.pop(sequence, None)

    def from_bytes(self, payload: bytes) -> Array:
        """Return the hidden states that another rank sent."""
        return np.frombuffer(payload, np.float32).reshape(-1, self._hidden_size)
