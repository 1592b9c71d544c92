"""Follows one sequence from the event loop: tokens become text, stop strings end it, metrics are counted."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

from devcluster.standins.vllm.engine import Engine
from devcluster.standins.vllm.faults import Faults
from devcluster.standins.vllm.metrics import Metrics
from devcluster.standins.vllm.pipeline import EngineDeadError
from devcluster.standins.vllm.requests import ApiError
from devcluster.standins.vllm.sampling import Logprobs, Sampling
from devcluster.standins.vllm.sequence import Output, Sequence
from devcluster.standins.vllm.text import GrowingText, StopScanner, TextModel


@dataclass(frozen=True)
class Piece:
    """What is new in an answer; the last one has a finish reason."""

    text: str
    token: int | None
    logprobs: Logprobs | None
    prompt_logprobs: tuple[Logprobs, ...]
    finish_reason: str | None
    stop_reason: str | int | None


@dataclass
class Answer:
    """An answer as a whole."""

    text: str = ""
    tokens: list[int] = field(default_factory=list)
    logprobs: list[Logprobs] = field(default_factory=list)
    prompt_logprobs: tuple[Logprobs, ...] = ()
    finish_reason: str | None = None
    stop_reason: str | int | None = None

    def add(self, piece: Piece) -> None:
        """Append a piece."""
        self.text += piece.text
        if piece.token is not None:
            self.tokens.append(piece.token)
        if piece.logprobs is not None:
            self.logprobs.append(piece.logprobs)
        self.prompt_logprobs = self.prompt_logprobs or piece.prompt_logprobs
        self.finish_reason = piece.finish_reason
        self.stop_reason = piece.stop_reason


class Generator:
    """Starts sequences in the engine and follows them."""

    def __init__(
        self, engine: Engine, text: TextModel, metrics: Metrics, faults: Faults, eos_ids: frozenset[int]
    ) -> None:
        """Generate with ``engine``, write text with ``text``, count into ``metrics``."""
        self._engine = engine
        self._text = text
        self._metrics = metrics
        self._faults = faults
        self._eos_ids = eos_ids

    def begin(self, prompt: list[int], sampling: Sampling) -> Generation:
        """Queue ``prompt`` and return its answer in the making.

        Raises:
            ApiError: The engine died, or this request drew an error (STANDIN_ERROR_RATE).
        """
        self._faults.count_request()
        if self._faults.refuses():
            self._metrics.finish("error")
            raise ApiError(500, "InternalServerError", "Internal server error (asked for by STANDIN_ERROR_RATE)")
        outputs: asyncio.Queue[Output] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def emit(output: Output) -> None:
            # The loop may close while the engine still computes: nobody waits for this token then.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(outputs.put_nowait, output)

        sequence = Sequence(prompt, sampling, emit, self._eos_ids, stalls=self._faults.stalls())
        try:
            self._engine.add(sequence)
        except EngineDeadError as error:
            raise ApiError(500, "InternalServerError", str(error)) from error
        return Generation(self._engine, sequence, outputs, _Follower(sequence, self._text, self._metrics))


@dataclass
class Generation:
    """An answer in the making."""

    _engine: Engine
    _sequence: Sequence
    _outputs: asyncio.Queue[Output]
    _follower: _Follower

    async def pieces(self) -> AsyncGenerator[Piece, None]:
        """Yield the answer piece by piece; when the consumer stops, the engine stops too.

        Raises:
            ApiError: The engine died.
        """
        try:
            while not self._follower.finished:
                yield self._follower.take(await self._outputs.get())
        finally:
            self._engine.abort(self._sequence)
            self._follower.close()

    async def whole(self) -> Answer:
        """Return the complete answer.

        Raises:
            ApiError: The engine died.
        """
        answer = Answer()
        async with contextlib.aclosing(self.pieces()) as pieces:
            async for piece in pieces:
                answer.add(piece)
        return answer


class _Follower:
    """Turns outputs of one sequence into pieces and counts them."""

    def __init__(self, sequence: Sequence, text: TextModel, metrics: Metrics) -> None:
        self.finished = False
        self._sequence = sequence
        self._metrics = metrics
        self._text = GrowingText(text, skip_special=sequence.sampling.skip_special)
        self._stop = StopScanner(sequence.sampling.stop, include=sequence.sampling.include_stop)
        self._first_at: float | None = None
        self._last_at = sequence.arrived_at
        self._reason = "abort"

    def take(self, output: Output) -> Piece:
        if output.error is not None:
            self._reason = "error"
            raise ApiError(500, "InternalServerError", output.error)
        if output.token is not None:
            self._count_token()
        text, stop_reason = self._text_of(output)
        reason = "stop" if stop_reason is not None else output.finish_reason
        if reason is not None:
            self.finished = True
            self._reason = reason
        if output.stop_token is not None:
            stop_reason = stop_reason or output.stop_token
        return Piece(text, output.token, output.logprobs, output.prompt_logprobs, reason, stop_reason)

    def _text_of(self, output: Output) -> tuple[str, str | int | None]:
        ended_by_token = output.finish_reason == "stop"
        grown = "" if output.token is None or ended_by_token else self._text.add(output.token)
        if output.finish_reason is not None:
            grown += self._text.rest()
        text, stop = self._stop.add(grown)
        if stop is None and output.finish_reason is not None:
            text += self._stop.rest()
        return text, stop

    def _count_token(self) -> None:
        now = time.monotonic()
        if self._first_at is None:
            self._first_at = now
            self._metrics.count("prompt_tokens", len(self._sequence.prompt))
            self._metrics.observe("time_to_first_token_seconds", now - self._sequence.arrived_at)
        else:
            self._metrics.observe("inter_token_latency_seconds", now - self._last_at)
        self._metrics.count("generation_tokens")
        self._last_at = now

    def close(self) -> None:
        """Count the request as ended, however it did."""
        sequence, metrics = self._sequence, self._metrics
        metrics.finish(self._reason)
        scheduled = sequence.scheduled_at or self._last_at
        first = self._first_at or self._last_at
        metrics.observe("e2e_request_latency_seconds", time.monotonic() - sequence.arrived_at)
        metrics.observe("request_queue_time_seconds", max(0.0, scheduled - sequence.arrived_at))
        metrics.observe("request_prefill_time_seconds", max(0.0, first - scheduled))
        metrics.observe("request_decode_time_seconds", max(0.0, self._last_at - first))
        metrics.observe("request_inference_time_seconds", max(0.0, self._last_at - scheduled))
        metrics.observe("request_prompt_tokens", len(sequence.prompt))
        metrics.observe("request_generation_tokens", sequence.generated)
        if sequence.generated > 1:
            per_token = (self._last_at - first) / (sequence.generated - 1)
            metrics.observe("request_time_per_output_token_seconds", per_token)
