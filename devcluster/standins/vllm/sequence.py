"""One prompt and what has been generated after it."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from devcluster.models.llama import Array
from devcluster.standins.vllm.sampling import Logprobs, Sampling, choose, logprobs_of
from devcluster.standins.vllm.share import Chunk

_numbers = itertools.count()


@dataclass(frozen=True)
class Output:
    """What one step brought for one sequence. The last output has a reason, or an error and no token."""

    token: int | None = None
    logprobs: Logprobs | None = None
    prompt_logprobs: tuple[Logprobs, ...] = ()
    finish_reason: str | None = None
    stop_token: int | None = None
    error: str | None = None


@dataclass(eq=False)
class Sequence:
    """State of one request in the engine. Times are of the monotonic clock, in seconds."""

    prompt: list[int]
    sampling: Sampling
    emit: Callable[[Output], None]
    eos_ids: frozenset[int]
    stalls: bool = False
    number: int = field(default_factory=lambda: next(_numbers))
    arrived_at: float = field(default_factory=time.monotonic)
    scheduled_at: float | None = None
    not_before: float = 0.0
    generated: int = 0
    held: Output | None = None
    _fed: int = 0
    _tokens: list[int] = field(init=False)
    _random: np.random.Generator = field(init=False)
    _prompt_logprobs: list[Logprobs] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Start with the prompt's tokens and an own source of randomness."""
        self._tokens = list(self.prompt)
        self._random = np.random.default_rng(self.sampling.seed)

    @property
    def length(self) -> int:
        """Tokens of prompt and answer so far."""
        return len(self._tokens)

    def next_chunk(self, most: int) -> tuple[Chunk, list[int]]:
        """Return what the model shall see next: the next part of the prompt, or the newest token."""
        tokens = self._tokens[self._fed : self._fed + most]
        scoring = self.sampling.prompt_logprobs is not None and self._fed < len(self.prompt)
        return Chunk(self.number, self._fed, len(tokens), scoring), tokens

    def take(self, chunk: Chunk, logits: Array) -> Output | None:
        """Use the logits after ``chunk``; return the new token, or None while the prompt is not through."""
        if chunk.every_logits:
            self._score_prompt(chunk, logits)
        self._fed += chunk.tokens
        if self._fed < len(self._tokens):
            return None
        if self.sampling.max_tokens == 0:
            return Output(prompt_logprobs=tuple(self._prompt_logprobs), finish_reason="length")
        return self._extend(logits[-1])

    def _extend(self, logits: Array) -> Output:
        token = choose(self._unfinished(logits), self.sampling, self._random)
        self._tokens.append(token)
        self.generated += 1
        wanted = self.sampling.logprobs
        first = self.generated == 1
        return Output(
            token,
            None if wanted is None else logprobs_of(logits, token, wanted),
            tuple(self._prompt_logprobs) if first else (),
            self._finish_reason(token),
            token if token in self.sampling.stop_ids else None,
        )

    def _unfinished(self, logits: Array) -> Array:
        """Return logits that cannot end the answer before ``min_tokens``."""
        if self.generated >= self.sampling.min_tokens:
            return logits
        logits = logits.copy()
        logits[list(self.eos_ids | self.sampling.stop_ids)] = -np.inf
        return logits

    def _finish_reason(self, token: int) -> str | None:
        ends = token in self.eos_ids and not self.sampling.ignore_eos
        if ends or token in self.sampling.stop_ids:
            return "stop"
        return "length" if self.generated >= self.sampling.max_tokens else None

    def _score_prompt(self, chunk: Chunk, logits: Array) -> None:
        for offset, row in enumerate(logits):
            position = chunk.start + offset + 1
            if position < len(self.prompt):
                scored = logprobs_of(row, self.prompt[position], self.sampling.prompt_logprobs or 0)
                self._prompt_logprobs.append(scored)
