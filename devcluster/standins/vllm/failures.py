"""How starting fails, in the words of vLLM 0.33 and of what it stands on, and at which phases."""

from __future__ import annotations

from dataclasses import dataclass

PROCESS = "process"
RENDEZVOUS = "rendezvous"
DEVICE = "device"
"""Between rendezvous and weights: the log still shows the one before."""
WEIGHTS = "weights"
COMPILE = "compile"
KV_CACHE = "kv_cache"
GRAPH_CAPTURE = "graph_capture"
ENGINE_UP = "engine_up"
PHASES = (PROCESS, RENDEZVOUS, DEVICE, WEIGHTS, COMPILE, KV_CACHE, GRAPH_CAPTURE, ENGINE_UP)


class StartupError(Exception):
    """Starting ended. The text is what the log says, the phase tells who says it."""

    def __init__(self, text: str, phase: str, where: str = "") -> None:
        """Keep ``text`` (last line of a traceback, perhaps with more lines) and the ``phase``.

        Args:
            text: The exception as Python prints it.
            phase: One of ``PHASES``.
            where: The innermost frame: a file below the packages' folder.
        """
        super().__init__(text)
        self.phase = phase
        self.where = where or _WHERE.get(phase, _IN_WORKER)


@dataclass(frozen=True)
class Failure:
    """A failure that can be asked for by STANDIN_FAIL."""

    text: str
    phases: tuple[str, ...]
    """Where it can happen; the first unless another is asked for."""
    where: str = ""


_IN_WORKER = "vllm/v1/executor/multiproc_executor.py"
_WHERE = {PROCESS: "vllm/engine/arg_utils.py", ENGINE_UP: "vllm/v1/engine/core_client.py"}
_TO_THE_END = (WEIGHTS, COMPILE, KV_CACHE, GRAPH_CAPTURE)

MODEL_REF = """pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig
  Value error, Invalid repository ID or local directory specified: '{model}'.
Please verify the following requirements:
1. Provide a valid Hugging Face repository ID.
2. Specify a local directory that contains a recognized configuration file.
   - For Hugging Face models: ensure the presence of a 'config.json'."""
MODEL_UNSUPPORTED = """pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig
  Value error, Model architectures {names} are not supported for now. Supported architectures: \
dict_keys(['LlamaForCausalLM'])"""
MODEL_TYPE = """pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig
  Value error, The checkpoint you are trying to load has model type `{kind}` but Transformers does not recognize this \
architecture. This could be because of an issue with the checkpoint, or because your version of Transformers is out \
of date."""
QUANTIZATION = """pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig
  Value error, Unknown quantization method: {method}. Must be one of ['awq', 'fp8', 'gptq', 'compressed-tensors']."""
CUSTOM_CODE = """pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig
  Value error, The repository {model} contains custom code which must be executed to correctly load the model. You can \
inspect the repository content at {model} .
Please pass the argument `trust_remote_code=True` to allow custom code to be run."""
CONFIG_BROKEN = "OSError: It looks like the config file at '{model}/config.json' is not a valid JSON file."
NO_TOKENIZER = """ValueError: Couldn't instantiate the backend tokenizer from one of: \n\
(1) a `tokenizers` library serialization file, \n\
(2) a slow tokenizer instance to convert or \n\
(3) an equivalent slow tokenizer class to instantiate and convert. \n\
You need to have sentencepiece or tiktoken installed to convert a slow tokenizer to a fast one."""
BAD_MAX_LEN = """pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig
  Value error, User-specified max_model_len ({asked}) is greater than the derived max_model_len \
(max_position_embeddings={derived} or model_max_length=None in model's config.json). To allow overriding this \
maximum, set the env var VLLM_ALLOW_LONG_MAX_MODEL_LEN=1."""
WORLD_SIZE = """pydantic_core._pydantic_core.ValidationError: 1 validation error for ParallelConfig
  Value error, World size ({world}) is larger than the number of available GPUs ({gpus}) in this node. If this is \
intentional and you are using:
- ray, set '--distributed-executor-backend ray'.
- multiprocessing, set '--nnodes' appropriately."""
NODES = (
    "ValueError: Invalid data-parallel launch options: `--nnodes {nnodes}` must evenly divide the total world size "
    "({world}). Adjust `--nnodes`, `--data-parallel-size`, `--pipeline-parallel-size`, `--tensor-parallel-size`, or "
    "`--prefill-context-parallel-size`."
)
NODE_RANK = (
    "ValueError: Invalid data-parallel launch options: `--node-rank` must be between 0 and {last}; got "
    "`--node-rank {rank}`. Set it to this node's zero-based index."
)
RENDEZVOUS_TIMEOUT = """torch.distributed.DistNetworkError: The client socket has timed out after {timeout_ms}ms while \
trying to connect to ({address}, {port})."""
CLIENTS = (
    "torch.distributed.DistStoreError: Timed out after {seconds:.0f} seconds waiting for clients. "
    "{joined}/{nnodes} clients joined."
)
KEYS = "torch.distributed.DistStoreError: wait timeout after {timeout_ms}ms, keys: /default_pg/0//cpu//0/{rank}"
MASTER_PORT = (
    "torch.distributed.DistNetworkError: The server socket has failed to listen on any local network address. port: "
    "{port}, useIpv6: false, code: -98, name: EADDRINUSE, message: address already in use"
)
PORT = "OSError: [Errno 98] Address already in use"
LEADER_GONE = (
    "torch.distributed.DistNetworkError: Failed to recv, got 0 bytes. Connection was likely closed. Did the remote "
    "server shutdown or crash?"
)
PEER_LOST = (
    "RuntimeError: [/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:553] Connection closed by peer "
    "[{peer}]:{port}. This is typically caused by a remote worker crashing. Check the logs of the remote worker "
    "before reporting an error."
)
FLAGS_DISAGREE = (
    "AssertionError: The KV cache specs for the same layer are different across workers. This is not supported yet."
)
WEIGHTS_MISSING = "FileNotFoundError: Weight files referenced in index but missing: {files}"
NO_WEIGHTS = "RuntimeError: Cannot find any model weights with `{model}`"
NOT_INITIALIZED = "ValueError: Following weights were not initialized from checkpoint: {names}"
WEIGHTS_MISMATCH = (
    "AssertionError: Attempted to load weight (torch.Size({found})) into parameter (torch.Size({wanted}))"
)
WEIGHTS_CORRUPT = "safetensors._safetensors_rust.SafetensorError: {error}"
PERMISSION = "PermissionError: [Errno 13] Permission denied: '{file}'"
KV_TOO_SMALL = """ValueError: To serve at least one request with the model's max seq len ({asked}), ({needed:.2f} GiB \
KV cache is needed, which is larger than the available KV cache memory ({available:.2f} GiB). Based on the available \
memory, the estimated maximum model length is {possible}. Try increasing `gpu_memory_utilization` or decreasing \
`max_model_len` when initializing the engine."""
IN_BACKGROUND = (
    "Exception: WorkerProc initialization failed due to an exception in a background process. See stack trace for "
    "root cause."
)

FAILURES = {
    "MODEL_REF": Failure(MODEL_REF, (PROCESS,)),
    "MODEL_UNSUPPORTED": Failure(MODEL_UNSUPPORTED.format(names="['OtherForCausalLM']"), (PROCESS,)),
    "CONFIG_BROKEN": Failure(CONFIG_BROKEN, (PROCESS,), "transformers/configuration_utils.py"),
    "TOKENIZER": Failure(NO_TOKENIZER, (PROCESS,), "transformers/tokenization_utils_tokenizers.py"),
    "BAD_MAX_LEN": Failure(BAD_MAX_LEN, (PROCESS,)),
    "PARALLEL_CFG": Failure(WORLD_SIZE, (PROCESS,)),
    "MISSING_DEPENDENCY": Failure(
        "ImportError: libcuda.so.1: cannot open shared object file: No such file or directory", (PROCESS,)
    ),
    "RAY_FAIL": Failure("ValueError: Failed to import Ray: No module named 'ray'. Please install Ray.", (PROCESS,)),
    "RAY_WAIT": Failure(
        "ValueError: Cannot provide a placement group requiring {world} GPUs (placement_group_specs=[{{'GPU': 1.0}}]) "
        "within 1800 seconds.",
        (RENDEZVOUS,),
        "vllm/v1/executor/ray_utils.py",
    ),
    "RENDEZVOUS": Failure(RENDEZVOUS_TIMEOUT, (RENDEZVOUS,), "torch/distributed/rendezvous.py"),
    "NCCL": Failure(
        "RuntimeError: NCCL error: unhandled system error (run with NCCL_DEBUG=INFO for details)",
        (RENDEZVOUS, *_TO_THE_END),
        "vllm/distributed/device_communicators/pynccl_wrapper.py",
    ),
    "PORT_IN_USE": Failure(MASTER_PORT, (RENDEZVOUS,), "torch/distributed/rendezvous.py"),
    "GPU_BUSY": Failure(
        "ValueError: Free memory on device cuda:0 (3.42/79.11 GiB) on startup is less than desired GPU memory "
        "utilization (0.92, 72.78 GiB). Decrease GPU memory utilization or reduce GPU memory used by other processes.",
        (DEVICE,),
        "vllm/v1/worker/utils.py",
    ),
    "GPU_OOM": Failure(
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.96 GiB. GPU 0 has a total capacity of "
        "79.11 GiB of which 1.21 GiB is free.",
        _TO_THE_END,
    ),
    "HOST_MEMORY": Failure(
        "RuntimeError: [enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory: you "
        "tried to allocate 1073741824 bytes. Error code 12 (Cannot allocate memory)",
        _TO_THE_END,
        "torch/nn/modules/module.py",
    ),
    "WEIGHTS_MISSING": Failure(WEIGHTS_MISSING, (WEIGHTS,)),
    "WEIGHTS_CORRUPT": Failure(
        WEIGHTS_CORRUPT.format(error="Error while deserializing header: header too large"),
        (WEIGHTS,),
        "safetensors/torch.py",
    ),
    "WEIGHTS_MISMATCH": Failure(WEIGHTS_MISMATCH.format(found="[1024, 512]", wanted="[512, 512]"), (WEIGHTS,)),
    "PERMISSION": Failure(PERMISSION, (WEIGHTS, PROCESS)),
    "FLAGS_DISAGREE": Failure(FLAGS_DISAGREE, (KV_CACHE,), "vllm/v1/core/kv_cache_planning.py"),
    "KV_TOO_SMALL": Failure(
        "ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization` when "
        "initializing the engine.",
        (KV_CACHE,),
        "vllm/v1/core/kv_cache_planning.py",
    ),
    "ENGINE_BUG": Failure("AssertionError", (KV_CACHE, *_TO_THE_END), "vllm/v1/worker/gpu_model_runner.py"),
    "UNKNOWN": Failure("KeyError: 'tile_m'", (KV_CACHE, PROCESS, RENDEZVOUS, *_TO_THE_END), "site_kernels/tuning.py"),
    "TIMEOUT": Failure(
        "TimeoutError: Timed out waiting for engine core processes to start. This is often caused by slow weight "
        "loading for large models. Waited 600s (configured by VLLM_ENGINE_READY_TIMEOUT_S). To increase the timeout, "
        "set the environment variable: VLLM_ENGINE_READY_TIMEOUT_S=<seconds>",
        (ENGINE_UP,),
    ),
    "GENERIC": Failure(IN_BACKGROUND, (ENGINE_UP,)),
}
