"""The taught part of the tiny models: an output head solved in closed form (ridge regression)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from devcluster.models.architecture import FINAL_NORM, Architecture
from devcluster.models.lessons import Lesson
from devcluster.models.llama import Array, Embedding, Stage, rms_norm

Float64 = NDArray[np.float64]
_RIDGE = 0.1
_ROUNDS = 20
_WANTED_MARGIN = 0.3
_SHARPER = 1.5
_LOGIT_SCALE = 24.0
"""Makes logits of one-hot targets: margins of 0.2 become 5, so sampling at temperature 1 still mostly keeps to them."""
_GRID = 2.0**-12
"""Heads are rounded to it: the last bits of a solution depend on how many threads the solver used."""


class Features:
    """Last hidden states of a body, in float64; those of lessons seen before are kept."""

    def __init__(self, arch: Architecture, body: dict[str, NDArray[np.float32]]) -> None:
        """Prepare the forward pass of ``body``."""
        self._arch = arch
        self._norm = body[FINAL_NORM].astype(np.float64)
        self._embedding = Embedding(body, np.float64)
        self._stage = Stage(arch, range(arch.num_hidden_layers), body, np.float64)
        self._seen: dict[tuple[int, ...], Array] = {}

    def of(self, lesson: Lesson) -> Array:
        """Return one row for each token of the answer: the state from which that token is read."""
        ids = (*lesson.prompt, *lesson.answer[:-1])
        if ids not in self._seen:
            hidden = self._stage.run(self._embedding.run(ids), 0, self._stage.new_cache())
            self._seen[ids] = rms_norm(hidden, self._norm, self._arch.rms_norm_eps)
        return self._seen[ids][len(lesson.prompt) - 1 :]


def solve_head(features: Features, lessons: Sequence[Lesson], vocabulary: int) -> NDArray[np.float32]:
    """Return the head that says what ``lessons`` teach.

    Positions whose margin is small weigh more in the next round, so that answers that must hold end up with one.

    Raises:
        ValueError: An answer that must hold could not be taught.
    """
    states = np.concatenate([features.of(lesson) for lesson in lessons]).astype(np.float64)
    tokens = np.concatenate([lesson.answer for lesson in lessons])
    weights = np.concatenate([np.full(len(lesson.answer), lesson.weight) for lesson in lessons])
    must_hold = np.concatenate([np.full(len(lesson.answer), lesson.must_hold) for lesson in lessons])
    gram = _RIDGE * np.eye(states.shape[1])
    targets = np.zeros((vocabulary, states.shape[1]))
    added, sharper = weights, np.ones(len(tokens), bool)
    for _ in range(_ROUNDS):
        # Only what changed is added up again: most rows keep their weight from round to round.
        weighted = states[sharper] * added[sharper, None]
        gram += states[sharper].T @ weighted
        np.add.at(targets, tokens[sharper], weighted)
        head = np.linalg.solve(gram, targets.T).T
        margins = _margins(states @ head.T, tokens)
        sharper = margins < _WANTED_MARGIN
        added = weights * (_SHARPER - 1)
        weights = np.where(sharper, weights + added, weights)
    if margins[must_hold].min() <= 0:
        raise ValueError(f"{int((margins[must_hold] <= 0).sum())} answers could not be taught; widen the hidden size")
    return (np.round(head * _LOGIT_SCALE / _GRID) * _GRID).astype(np.float32)


def _margins(scores: Float64, tokens: NDArray[np.int64]) -> Float64:
    rows = np.arange(len(tokens))
    wanted = scores[rows, tokens].copy()
    scores[rows, tokens] = -np.inf
    result: Float64 = wanted - scores.max(axis=1)
    return result
