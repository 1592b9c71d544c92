"""Lines that say how far a probe is: which round, which pair, what was not good, and when it should end."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from llm_rollout.fabric.bench import Load
from llm_rollout.fabric.rounds import rounds
from llm_rollout.fabric.schedule import PairDone

Emit = Callable[[dict[str, Any]], None]

_RUN_SECONDS = 2.0
"""What starting the tools and the latency take beside the bandwidth: an estimate for the first line only."""


class Progress:
    """Tells what happens and counts the rounds. The estimate covers this attempt, not those that may follow."""

    def __init__(self, emit: Emit) -> None:
        """``emit`` prints one line."""
        self._emit = emit
        self._began: dict[int, float] = {}
        self._rounds: dict[int, int] = {}

    @property
    def rounds(self) -> int:
        """Rounds of the first attempt."""
        return self._rounds.get(1, 0)

    @property
    def retry_rounds(self) -> int:
        """Rounds of all further attempts."""
        return sum(self._rounds.values()) - self.rounds

    def announce(self, count: int, load: Load) -> None:
        """Say what is about to be measured and how long that takes."""
        planned = rounds(count)
        eta_seconds = len(planned) * 2 * (load.seconds + _RUN_SECONDS)
        self._began[1] = time.monotonic()
        total = sum(len(pairs) for pairs in planned)
        message = f"{total} pairs on {', '.join(load.hcas)} in {len(planned)} rounds, about {eta_seconds:.0f} s"
        line = {"event": "progress", "phase": "plan", "rounds": len(planned), "done": 0, "total": total}
        self._emit({**line, "eta_seconds": round(eta_seconds), "message": message})

    def pair_done(self, done: PairDone) -> None:
        """Say what one pair gave; only rows that are not good are shown, the report has all."""
        now = time.monotonic()
        self._rounds[done.attempt] = done.rounds
        began = self._began.setdefault(done.attempt, now)
        eta_seconds = round((now - began) / done.done * (done.total - done.done))
        pair = " <-> ".join(done.rows[0].pair)
        message = f"attempt {done.attempt}, round {done.round} of {done.rounds}: {pair}, about {eta_seconds} s left"
        self._emit({
            "event": "progress",
            "phase": "measure" if done.attempt == 1 else "retry",
            "attempt": done.attempt,
            "round": done.round,
            "rounds": done.rounds,
            "done": done.done,
            "total": done.total,
            "pair": pair,
            "eta_seconds": eta_seconds,
            "message": message,
            "rows": [row.as_json() for row in done.rows if row.status != "ok"],
        })  # fmt: skip
