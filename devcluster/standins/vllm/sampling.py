"""Chooses the next token from logits."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from devcluster.models.llama import Array


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen and when they end. Temperature 0 is greedy."""

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    min_tokens: int = 0
    ignore_eos: bool = False
    stop: tuple[str, ...] = ()
    stop_ids: frozenset[int] = frozenset()
    include_stop: bool = False
    skip_special: bool = True
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    seed: int | None = None


@dataclass(frozen=True)
class Logprobs:
    """Natural-log probabilities at one position: of the token itself and of the likeliest ones."""

    token: int
    logprob: float
    top: dict[int, float] = field(default_factory=dict)


def choose(logits: Array, sampling: Sampling, random: np.random.Generator) -> int:
    """Return the next token."""
    if sampling.temperature == 0:
        return int(logits.argmax())
    probabilities = _probabilities(logits.astype(np.float64) / sampling.temperature)
    probabilities[~_allowed(probabilities, sampling)] = 0.0
    return int(random.choice(len(probabilities), p=probabilities / probabilities.sum()))


def logprobs_of(logits: Array, token: int, count: int) -> Logprobs:
    """Return the log probability of ``token`` and of the ``count`` likeliest tokens."""
    values = logits.astype(np.float64)
    values = values - values.max()
    values = values - np.log(np.exp(values).sum())
    best = np.argsort(-values, kind="stable")[:count]
    return Logprobs(token, float(values[token]), {int(index): float(values[index]) for index in best})


def _probabilities(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(logits - logits.max())
    result: NDArray[np.float64] = powers / powers.sum()
    return result


def _allowed(probabilities: NDArray[np.float64], sampling: Sampling) -> NDArray[np.bool_]:
    order = np.argsort(-probabilities, kind="stable")
    before = np.cumsum(probabilities[order]) - probabilities[order]
    kept = before < sampling.top_p
    if sampling.top_k > 0:
        kept[sampling.top_k :] = False
    allowed = np.zeros(len(probabilities), bool)
    allowed[order[kept]] = True
    result: NDArray[np.bool_] = allowed & (probabilities >= sampling.min_p * probabilities.max())
    return result
