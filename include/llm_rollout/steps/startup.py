"""How far an engine is, and why it died, from the last lines of its log.

The fragments are those of vLLM 0.33, in the order in which a start-up prints them.
"""

from __future__ import annotations

_PHASES = (
    ("process", ("vLLM server version", "headless multiproc executor", "Initializing a V1 LLM engine")),
    ("rendezvous", ("distributed_init_method=", "vLLM is using nccl", "creating a placement group")),
    (
        "weights",
        ("Starting to load model", "Loading model from scratch", "Loading safetensors", "Loading weights took"),
    ),
    ("compile", ("torch.compile", "Dynamo bytecode transform", "Directly load the compiled graph")),
    ("KV cache", ("Available KV cache memory", "GPU KV cache size")),
    ("graphs", ("Profiling CUDA graph memory", "Capturing CUDA graphs", "Graph capturing finished")),
    ("engine up", ("init engine (profile",)),
    ("serving", ("Starting vLLM server on", "Application startup complete")),
)

_REMEDIES = (
    (("CUDA out of memory", "not enough GPU memory"), "lower server.gpu_memory_utilization or use more GPUs"),
    (("is less than desired GPU memory utilization",), "another process holds GPU memory on that node: end it"),
    (
        ("No available memory for the cache blocks", "To serve at least one request with the model's max seq len"),
        "lower server.max_model_len or raise server.gpu_memory_utilization",
    ),
    (("User-specified max_model_len",), "lower server.max_model_len to what the model supports"),
    (
        ("is larger than the number of available GPUs", "must be divisible by tensor parallel size"),
        "make server.tensor_parallel * server.pipeline_parallel fit nodes_per_group * gpus_per_node and the model",
    ),
    (
        ("Weight files referenced in index but missing", "Cannot find any model weights", "were not initialized"),
        "clear stage_weights: the store lacks files of this commit; or choose a revision that is complete",
    ),
    (("Invalid repository ID or local directory",), "check store.claim and store.mount_path, then clear stage_weights"),
    (("NCCL error:", "Failed to load NCCL library"), "clear validate_rdma and read which link it names"),
    (
        ("DistNetworkError", "DistStoreError", "Name or service not known"),
        "the pods of the group do not reach each other: check network policies and the headless Service",
    ),
    (("Timed out waiting for engine core",), "raise timing.cold_start_seconds"),
    (("Failed to import Ray",), "use an image with Ray, or server.executor: mp"),
)

_UNKNOWN = "read the last lines in the evidence, correct the spec, and start a new rollout"


def phase(text: str) -> str:
    """The furthest phase that the log names; ``starting`` before the first."""
    reached = [name for name, fragments in _PHASES if any(fragment in text for fragment in fragments)]
    return reached[-1] if reached else "starting"


def last_line(text: str) -> str:
    """The last line that says something; progress bars rewrite theirs with carriage returns."""
    lines = [line.strip() for line in text.replace("\r", "\n").splitlines() if line.strip()]
    return lines[-1] if lines else ""


def remedy(text: str) -> str:
    """What to do about the error that the log shows."""
    return next((told for fragments, told in _REMEDIES if any(one in text for one in fragments)), _UNKNOWN)
