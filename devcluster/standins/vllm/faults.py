"""The faults that environment variables switch on; the package's docstring lists them."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

from devcluster.standins.vllm import logs
from devcluster.standins.vllm.failures import FAILURES, PHASES, StartupError


@dataclass
class Faults:
    """What shall go wrong in this process. Rates from 0 to 1, times in seconds."""

    load_seconds: float = 0.0
    compile_seconds: float = 0.0
    graph_seconds: float = 0.0
    step_seconds: float = 0.0
    ttft_factor: float = 1.0
    ttft_delay_seconds: float = 0.0
    error_rate: float = 0.0
    stall_rate: float = 0.0
    crash_after_seconds: float | None = None
    crash_after_requests: int | None = None
    fail: str | None = None
    """A class of ``FAILURES``."""
    fail_phase: str = ""
    hang: str | None = None
    """The phase that it enters and never leaves, without another word."""
    _requests: int = field(default=0, init=False)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str], node_rank: int) -> Faults:
        """Read the variables as far as they mean the process of ``node_rank``.

        Raises:
            ValueError: A number cannot be read, or STANDIN_FAIL or STANDIN_HANG names what is not known.
        """

        def number(name: str) -> float | None:
            text = environment.get(f"STANDIN_{name}")
            return float(text) if text else None

        mine = int(number("FAIL_RANK") or 0) == node_rank
        fail, phase = _failure(environment.get("STANDIN_FAIL", ""))
        hang = environment.get("STANDIN_HANG") or None
        if hang is not None and hang not in PHASES:
            raise ValueError(f"STANDIN_HANG={hang} is unknown; known are {', '.join(PHASES)}")
        requests = number("CRASH_AFTER_REQUESTS")
        return cls(
            load_seconds=number("LOAD_SECONDS") or 0.0,
            compile_seconds=number("COMPILE_SECONDS") or 0.0,
            graph_seconds=number("GRAPH_SECONDS") or 0.0,
            step_seconds=number("STEP_SECONDS") or 0.0,
            ttft_factor=number("TTFT_FACTOR") or 1.0,
            ttft_delay_seconds=number("TTFT_DELAY_SECONDS") or 0.0,
            error_rate=number("ERROR_RATE") or 0.0,
            stall_rate=number("STALL_RATE") or 0.0,
            crash_after_seconds=number("CRASH_AFTER_SECONDS") if mine else None,
            crash_after_requests=None if requests is None else int(requests),
            fail=fail if mine else None,
            fail_phase=phase if mine else "",
            hang=hang if mine else None,
        )

    def reach(self, phase: str, words: Mapping[str, object] | None = None) -> None:
        """Hang or fail in ``phase`` where that is wanted; ``words`` fill in the failure's text.

        Raises:
            StartupError: It is.
        """
        if self.hang == phase:
            threading.Event().wait()
        if self.fail is not None and self.fail_phase == phase:
            failure = FAILURES[self.fail]
            raise StartupError(failure.text.format(**words or {}), phase, failure.where)

    def start_crash_clock(self) -> None:
        """Begin counting towards ``crash_after_seconds``."""
        if self.crash_after_seconds is not None:
            timer = threading.Timer(self.crash_after_seconds, crash)
            timer.daemon = True
            timer.start()

    def count_request(self) -> None:
        """Count a generation request; the process dies when it is one too many."""
        self._requests += 1
        if self.crash_after_requests is not None and self._requests > self.crash_after_requests:
            crash()

    def refuses(self) -> bool:
        """Say whether this request shall get an error."""
        return random.random() < self.error_rate

    def stalls(self) -> bool:
        """Say whether this request shall stall."""
        return random.random() < self.stall_rate

    def held_back_seconds(self, ttft_seconds: float) -> float:
        """Return by how much a first token that took ``ttft_seconds`` shall be late."""
        return ttft_seconds * (self.ttft_factor - 1) + self.ttft_delay_seconds


def _failure(text: str) -> tuple[str | None, str]:
    """The class and the phase of ``CLASS`` or ``CLASS@phase``."""
    if not text:
        return None, ""
    name, _, phase = text.partition("@")
    if name not in FAILURES:
        raise ValueError(f"STANDIN_FAIL={text} is unknown; known are {', '.join(FAILURES)}")
    phases = FAILURES[name].phases
    if phase and phase not in phases:
        raise ValueError(f"STANDIN_FAIL={text}: {name} can happen at {', '.join(phases)}")
    return name, phase or phases[0]


def crash() -> None:
    """End the process as a broken GPU does: a message, and nothing is tidied up."""
    logs.error("core.py:1101", "EngineCore encountered a fatal error.")
    logs.error("core.py:1101", "torch.AcceleratorError: CUDA error: an illegal memory access was encountered")
    os._exit(1)
