"""The engine's loop: admits sequences, sends all that run through the pipeline step by step, hands out tokens."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

from devcluster.standins.vllm import logs
from devcluster.standins.vllm.faults import Faults
from devcluster.standins.vllm.pipeline import EngineDeadError, Pipeline
from devcluster.standins.vllm.sequence import Output, Sequence

_PROMPT_TOKENS_A_STEP = 256
"""Of one sequence: a long prompt must not hold up the tokens of the others."""
_STALL_AFTER_TOKENS = 1
"""The answers of a canary's tasks have hardly more: a request that shall stall must not end before."""
_CACHE_TOKENS_AT_FULL_MEMORY = 1_048_576
"""What the key-value cache of the whole group would hold with all of the GPUs' memory."""


class Engine:
    """Runs in a thread of its own; every method may be called from any thread."""

    def __init__(
        self, pipeline: Pipeline, faults: Faults, *, max_num_seqs: int, vocabulary: int, memory_utilization: float
    ) -> None:
        """Prepare a loop that runs up to ``max_num_seqs`` sequences at once."""
        self._pipeline = pipeline
        self._faults = faults
        self._max_num_seqs = max_num_seqs
        self._vocabulary = vocabulary
        self.cache_tokens = cache_tokens(memory_utilization)
        self._changed = threading.Condition()
        self._waiting: deque[Sequence] = deque()
        self._running: list[Sequence] = []
        self._not_admitted = 0
        self._closing = False
        self._death: str | None = None
        self._on_death: Callable[[], None] | None = None
        self._thread = threading.Thread(target=self._loop, name="engine", daemon=True)

    def start(self, on_death: Callable[[], None]) -> None:
        """Begin; ``on_death`` is called once if a rank dies."""
        self._on_death = on_death
        self._pipeline.watch(self.die)
        self._thread.start()

    def add(self, sequence: Sequence) -> None:
        """Queue a sequence. Its outputs come by its own callback.

        Raises:
            EngineDeadError: A rank has died.
        """
        with self._changed:
            if self._death is not None:
                raise EngineDeadError(self._death)
            self._waiting.append(sequence)
            self._changed.notify()

    def abort(self, sequence: Sequence) -> None:
        """Drop a sequence; no output follows. Unknown ones are ignored."""
        with self._changed:
            if sequence in self._waiting:
                self._waiting.remove(sequence)
                self._not_admitted = min(self._not_admitted, len(self._waiting))
            if sequence in self._running:
                self._remove(sequence)

    def close(self) -> None:
        """End the loop and the group."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._pipeline.close()

    @property
    def dead(self) -> bool:
        """Whether a rank died."""
        return self._death is not None

    def load(self) -> tuple[int, int, float]:
        """Return the sequences running, those waiting, and the part of the key-value cache in use."""
        with self._changed:
            return len(self._running), len(self._waiting), self._cache_usage()

    def gauges(self) -> tuple[int, int, float]:
        """Return the same as ``/metrics`` tells it.

        Waiting are those that found no room when steps were last made up, as vLLM counts them: who has come since then
        waits for a step, not for room.
        """
        with self._changed:
            return len(self._running), self._not_admitted, self._cache_usage()

    def _cache_usage(self) -> float:
        return min(1.0, sum(sequence.length for sequence in self._running) / self.cache_tokens)

    def die(self, reason: str) -> None:
        """Take note that a rank died: everything that runs or waits gets an error. Nothing happens while closing."""
        with self._changed:
            if self._closing or self._death is not None:
                return
            self._death = reason
            lost = [*self._running, *self._waiting]
            self._running.clear()
            self._waiting.clear()
            self._not_admitted = 0
            self._changed.notify()
        logs.error("multiproc_executor.py:284", reason)
        logs.error("core.py:1101", "EngineCore encountered a fatal error.")
        logs.error("async_llm.py:690", "EngineDeadError: EngineCore encountered an issue. See stack trace (above).")
        for sequence in lost:
            sequence.emit(Output(error="EngineCore encountered an issue. See stack trace (above) for the root cause."))
        if self._on_death is not None:
            self._on_death()

    def _loop(self) -> None:
        while True:
            with self._changed:
                ready = self._ready()
                while not ready and not self._closing and self._death is None:
                    self._changed.wait(self._next_release_seconds())
                    ready = self._ready()
                if self._closing or self._death is not None:
                    return
            started = time.monotonic()
            try:
                self._step(ready)
            except EngineDeadError as error:
                self.die(str(error))
                return
            self._rest(started + self._faults.step_seconds)

    def _rest(self, until: float) -> None:
        """Let a step last until then; first tokens that were held back are not late for that."""
        while (left := until - time.monotonic()) > 0:
            with self._changed:
                self._release()
                due = self._next_release_seconds()
            time.sleep(left if due is None else min(left, due))

    def _ready(self) -> list[Sequence]:
        """Admit what fits, hand out first tokens that were held back long enough, return what can go on."""
        while self._waiting and len(self._running) < self._max_num_seqs:
            sequence = self._waiting.popleft()
            sequence.scheduled_at = time.monotonic()
            self._running.append(sequence)
        self._not_admitted = len(self._waiting)
        self._release()
        return [s for s in self._running if s.held is None and not (s.stalls and s.generated >= _STALL_AFTER_TOKENS)]

    def _release(self) -> None:
        """Hand out the first tokens that were held back long enough."""
        now = time.monotonic()
        for sequence in [running for running in self._running if running.held and running.not_before <= now]:
            output, sequence.held = sequence.held, None
            if output is not None:
                self._hand_out(sequence, output)

    def _next_release_seconds(self) -> float | None:
        times = [sequence.not_before for sequence in self._running if sequence.held]
        return max(0.0, min(times) - time.monotonic()) if times else None

    def _step(self, sequences: list[Sequence]) -> None:
        pairs = [sequence.next_chunk(_PROMPT_TOKENS_A_STEP) for sequence in sequences]
        chunks = [chunk for chunk, _ in pairs]
        logits = self._pipeline.step(chunks, [token for _, tokens in pairs for token in tokens], self._vocabulary)
        at = 0
        with self._changed:
            for sequence, chunk in zip(sequences, chunks, strict=True):
                rows = chunk.tokens if chunk.every_logits else 1
                if sequence in self._running:
                    self._deliver(sequence, sequence.take(chunk, logits[at : at + rows]))
                at += rows

    def _deliver(self, sequence: Sequence, output: Output | None) -> None:
        if output is None:
            return
        if sequence.generated == 1:
            now = time.monotonic()
            sequence.not_before = now + self._faults.held_back_seconds(now - sequence.arrived_at)
            if sequence.not_before > now:
                sequence.held = output
                return
        self._hand_out(sequence, output)

    def _hand_out(self, sequence: Sequence, output: Output) -> None:
        if output.finish_reason is not None:
            self._remove(sequence)
        sequence.emit(output)

    def _remove(self, sequence: Sequence) -> None:
        self._running.remove(sequence)
        self._pipeline.release(sequence.number)


def cache_tokens(memory_utilization: float) -> int:
    """Return the tokens that the key-value cache holds at that part of the GPUs' memory."""
    return int(_CACHE_TOKENS_AT_FULL_MEMORY * memory_utilization)
