"""How starting fails, in vLLM's words, and at which phase."""

from __future__ import annotations

from dataclasses import dataclass


class StartupError(Exception):
    """Starting ended. The text is what the log says, the phase tells who says it."""

    def __init__(self, text: str, phase: str) -> None:
        """Keep ``text`` (last line of a traceback, perhaps with more lines) and the ``phase``."""
        super().__init__(text)
        self.phase = phase


@dataclass(frozen=True)
class Failure:
    """A failure that can be asked for by STANDIN_FAIL."""

    phase: str
    text: str


CONFIG = "config"
RENDEZVOUS = "rendezvous"
DEVICE = "device"
WEIGHTS = "weights"
KV_CACHE = "kv_cache"
READY = "ready"

MODEL_REF = """ValueError: Invalid repository ID or local directory specified: '{model}'.
Please verify the following requirements:
1. Provide a valid Hugging Face repository ID.
2. Specify a local directory that contains a recognized configuration file.
   - For Hugging Face models: ensure the presence of a 'config.json'."""
BAD_MAX_LEN = """pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig
  Value error, User-specified max_model_len ({asked}) is greater than the derived max_model_len \
(max_position_embeddings={derived} or model_max_length=None in model's config.json). To allow overriding this \
maximum, set the env var VLLM_ALLOW_LONG_MAX_MODEL_LEN=1."""
WORLD_SIZE = """pydantic_core._pydantic_core.ValidationError: 1 validation error for ParallelConfig
  Value error, World size ({world}) is larger than the number of available GPUs ({gpus}) in this node. If this is \
intentional and you are using:
- ray, set '--distributed-executor-backend ray'.
- multiprocessing, set '--nnodes' appropriately."""
RENDEZVOUS_TIMEOUT = """torch.distributed.DistNetworkError: The client socket has timed out after {timeout_ms}ms while \
trying to connect to ({address}, {port})."""
WEIGHTS_MISSING = "FileNotFoundError: Weight files referenced in index but missing: {files}"
KV_TOO_SMALL = """ValueError: To serve at least one request with the model's max seq len ({asked}), ({needed:.2f} GiB \
KV cache is needed, which is larger than the available KV cache memory ({available:.2f} GiB). Based on the available \
memory, the estimated maximum model length is {possible}. Try increasing `gpu_memory_utilization` or decreasing \
`max_model_len` when initializing the engine."""

FAILURES = {
    "MODEL_REF": Failure(CONFIG, MODEL_REF),
    "BAD_MAX_LEN": Failure(CONFIG, BAD_MAX_LEN),
    "PARALLEL_CFG": Failure(CONFIG, WORLD_SIZE),
    "RENDEZVOUS": Failure(RENDEZVOUS, RENDEZVOUS_TIMEOUT),
    "NCCL": Failure(
        RENDEZVOUS, "RuntimeError: NCCL error: unhandled system error (run with NCCL_DEBUG=INFO for details)"
    ),
    "GPU_BUSY": Failure(
        DEVICE,
        "ValueError: Free memory on device cuda:0 (3.42/79.11 GiB) on startup is less than desired GPU memory "
        "utilization (0.92, 72.78 GiB). Decrease GPU memory utilization or reduce GPU memory used by other processes.",
    ),
    "GPU_OOM": Failure(
        WEIGHTS,
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.96 GiB. GPU 0 has a total capacity of "
        "79.11 GiB of which 1.21 GiB is free.",
    ),
    "WEIGHTS_MISSING": Failure(WEIGHTS, WEIGHTS_MISSING),
    "KV_TOO_SMALL": Failure(
        KV_CACHE,
        "ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization` when "
        "initializing the engine.",
    ),
    "TIMEOUT": Failure(
        READY,
        "TimeoutError: Timed out waiting for engine core processes to start. This is often caused by slow weight "
        "loading for large models. To increase the timeout, set the environment variable "
        "VLLM_ENGINE_READY_TIMEOUT_S.",
    ),
    "GENERIC": Failure(
        READY, "Exception: WorkerProc initialization failed due to an exception in a background process."
    ),
}
