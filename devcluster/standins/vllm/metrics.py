"""Counters, gauges and histograms under vLLM's names, written as Prometheus text."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Iterator, Sequence

_SECONDS = (0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0)
_FIRST_TOKEN = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0,
)  # fmt: skip
_BETWEEN_TOKENS = (
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
)  # fmt: skip
_TOKENS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000)

HISTOGRAMS: dict[str, tuple[str, Sequence[float]]] = {
    "time_to_first_token_seconds": ("Histogram of time to first token in seconds.", _FIRST_TOKEN),
    "inter_token_latency_seconds": ("Histogram of inter-token latency in seconds.", _BETWEEN_TOKENS),
    "request_time_per_output_token_seconds": ("Histogram of time_per_output_token per request.", _BETWEEN_TOKENS),
    "e2e_request_latency_seconds": ("Histogram of e2e request latency in seconds.", _SECONDS),
    "request_queue_time_seconds": ("Histogram of time spent in WAITING phase for request.", _SECONDS),
    "request_prefill_time_seconds": ("Histogram of time spent in PREFILL phase for request.", _SECONDS),
    "request_decode_time_seconds": ("Histogram of time spent in DECODE phase for request.", _SECONDS),
    "request_inference_time_seconds": ("Histogram of time spent in RUNNING phase for request.", _SECONDS),
    "request_prompt_tokens": ("Number of prefill tokens processed.", _TOKENS),
    "request_generation_tokens": ("Number of generation tokens processed.", _TOKENS),
}
COUNTERS = {
    "num_preemptions": "Cumulative number of preemption from the engine.",
    "prompt_tokens": "Number of prefill tokens processed.",
    "generation_tokens": "Number of generation tokens processed.",
    "prefix_cache_queries": "Prefix cache queries, in terms of number of queried tokens.",
    "prefix_cache_hits": "Prefix cache hits, in terms of number of cached tokens.",
}
FINISH_REASONS = ("stop", "length", "abort", "error", "repetition")


class Metrics:
    """What has happened since the start. Safe from several threads."""

    def __init__(self, model: str) -> None:
        """Start at zero; every line is labelled with ``model`` and engine 0."""
        self._labels = f'engine="0",model_name="{model}"'
        self._lock = threading.Lock()
        self._counters = dict.fromkeys(COUNTERS, 0)
        self._finished = dict.fromkeys(FINISH_REASONS, 0)
        self._buckets = {name: [0] * (len(bounds) + 1) for name, (_, bounds) in HISTOGRAMS.items()}
        self._sums = dict.fromkeys(HISTOGRAMS, 0.0)

    def count(self, name: str, amount: int = 1) -> None:
        """Add to a counter of ``COUNTERS``."""
        with self._lock:
            self._counters[name] += amount

    def finish(self, reason: str) -> None:
        """Count a request that ended; ``reason`` is one of ``FINISH_REASONS``."""
        with self._lock:
            self._finished[reason] += 1

    def observe(self, name: str, value: float) -> None:
        """Put a value into a histogram of ``HISTOGRAMS``."""
        with self._lock:
            self._buckets[name][bisect_left(HISTOGRAMS[name][1], value)] += 1
            self._sums[name] += value

    def totals(self) -> tuple[int, int]:
        """Return the prompt tokens and generated tokens so far."""
        with self._lock:
            return self._counters["prompt_tokens"], self._counters["generation_tokens"]

    def text(self, running: int, waiting: int, cache_usage: float) -> str:
        """Return everything in Prometheus' text format; the gauges' values are the arguments."""
        with self._lock:
            lines = [*self._gauges(running, waiting, cache_usage), *self._counter_lines(), *self._histogram_lines()]
        return "\n".join(lines) + "\n"

    def _gauges(self, running: int, waiting: int, cache_usage: float) -> Iterator[str]:
        yield from self._single(
            "num_requests_running", "gauge", "Number of requests in model execution batches.", running
        )
        yield from self._single("num_requests_waiting", "gauge", "Number of requests waiting to be processed.", waiting)
        yield "# HELP vllm:num_requests_waiting_by_reason Number of waiting requests by reason."
        yield "# TYPE vllm:num_requests_waiting_by_reason gauge"
        for reason, value in (("capacity", waiting), ("deferred", 0)):
            yield f'vllm:num_requests_waiting_by_reason{{{self._labels},reason="{reason}"}} {float(value)}'
        yield from self._single(
            "kv_cache_usage_perc", "gauge", "KV-cache usage. 1 means 100 percent usage.", cache_usage
        )
        yield "# HELP vllm:engine_sleep_state Engine sleep state; awake = 1 means the engine is active."
        yield "# TYPE vllm:engine_sleep_state gauge"
        for state, value in (("awake", 1), ("weights_offloaded", 0), ("discard_all", 0)):
            yield f'vllm:engine_sleep_state{{{self._labels},sleep_state="{state}"}} {float(value)}'

    def _counter_lines(self) -> Iterator[str]:
        for name, help_text in COUNTERS.items():
            yield from self._single(f"{name}_total", "counter", help_text, self._counters[name])
        yield "# HELP vllm:request_success_total Count of successfully processed requests."
        yield "# TYPE vllm:request_success_total counter"
        for reason, value in self._finished.items():
            yield f'vllm:request_success_total{{{self._labels},finished_reason="{reason}"}} {float(value)}'

    def _histogram_lines(self) -> Iterator[str]:
        for name, (help_text, bounds) in HISTOGRAMS.items():
            yield f"# HELP vllm:{name} {help_text}"
            yield f"# TYPE vllm:{name} histogram"
            total = 0
            for bound, value in zip((*map(float, bounds), "+Inf"), self._buckets[name], strict=True):
                total += value
                yield f'vllm:{name}_bucket{{{self._labels},le="{bound}"}} {float(total)}'
            yield f"vllm:{name}_count{{{self._labels}}} {float(total)}"
            yield f"vllm:{name}_sum{{{self._labels}}} {self._sums[name]}"

    def _single(self, name: str, kind: str, help_text: str, value: float) -> Iterator[str]:
        yield f"# HELP vllm:{name} {help_text}"
        yield f"# TYPE vllm:{name} {kind}"
        yield f"vllm:{name}{{{self._labels}}} {float(value)}"
