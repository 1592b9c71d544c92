"""The words in which an engine refuses what it was given: memory, files, flags, model."""

from __future__ import annotations

from typing import Final

from llm_rollout.coldstart.signature import sign

ROWS: Final = (
    # What the group as a whole got wrong.
    sign("FLAGS_DISAGREE", r"KV cache specs for the same layer are different across workers",
          "AssertionError: The KV cache specs for the same layer are different across workers. This is not "
          "supported yet."),
    sign("FLAGS_DISAGREE", r"Configuration mismatch detected for engine",
          "RuntimeError: Configuration mismatch detected for engine 1. All DP workers must have identical "
          "configurations"),
    # Memory of the GPU.
    sign("GPU_OOM", r"\b(?:CUDA|HIP|XPU|NPU)(?: driver)?(?: [Ee]rror:)? out of memory"
          r"|torch\.(?:cuda\.)?OutOfMemoryError"
          r"|CUBLAS_STATUS_ALLOC_FAILED",
          "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.96 GiB. GPU 0 has a total capacity of "
          "79.11 GiB of which 1.21 GiB is free."),
    sign("GPU_OOM", r"Failed to load model - not enough GPU memory",
          "Failed to load model - not enough GPU memory. Try lowering --gpu-memory-utilization to free memory"),
    sign("GPU_BUSY", r"Free memory on device .* is less than desired GPU memory",
          "ValueError: Free memory on device cuda:0 (3.42/79.11 GiB) on startup is less than desired GPU memory "
          "utilization (0.92, 72.78 GiB)."),
    sign("GPU_BUSY", r"CUDA-capable device\(s\) is/are busy|devices? (?:is|are) busy or unavailable",
          "torch.AcceleratorError: CUDA error: CUDA-capable device(s) is/are busy or unavailable"),
    sign("KV_TOO_SMALL", r"No available memory for the cache blocks",
          "ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization`"),
    sign("KV_TOO_SMALL", r"To serve at least one request with the models?'?s? max seq len"
          r"|Cannot auto-fit max_model_len",
          "ValueError: To serve at least one request with the model's max seq len (131072), (32.00 GiB KV cache "
          "is needed, which is larger than the available KV cache memory (4.10 GiB)."),
    sign("KV_TOO_SMALL", r"max seq len \(\d+\) is larger than the maximum number of tokens that can be stored in KV"
          r"|exceeds available Mamba cache blocks",
          "ValueError: The model's max seq len (8192) is larger than the maximum number of tokens that can be "
          "stored in KV cache (4096)."),
    # Memory of the host.
    sign("HOST_MEMORY", r"Available memory on node \d+ .* is less than (?:desired|requested)",
          "ValueError: Available memory on node 0 (16.68/23.54 GiB) on kv cache allocation is less than requested "
          "memory for kv (64.0 GiB)."),
    sign("HOST_MEMORY", r"Insufficient space in /dev/shm|No space left on device|Disk quota exceeded",
          "OSError: [Errno 28] No space left on device: '/dev/shm/psm_5d1f'"),
    sign("HOST_MEMORY", r"^(?:\w+\.)*MemoryError\b|node running low on memory|std::bad_alloc|Cannot allocate memory"
          r"|can't allocate memory",
          "RuntimeError: [enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate "
          "memory: you tried to allocate 17179869184 bytes. Error code 12 (Cannot allocate memory)"),
    sign("HOST_MEMORY", r"^(?:.*: line \d+: +\d+ )?Killed\b|[Kk]illed by signal: ?(?:9|SIGKILL)|\bOOMKilled\b"
          r"|oom-kill|signal 9 \(SIGKILL\)",
          "/start.sh: line 3:    17 Killed                  vllm serve /models/llama", bare=True),
    sign("HOST_MEMORY", r"^(?:.*: line \d+: +\d+ )?Bus error|Fatal Python error: Bus error|Signal 7 \(SIGBUS\)",
          "Fatal Python error: Bus error"),
    sign("HOST_MEMORY", r"died unexpectedly \(exit code: -(?:9|7)\)",
          "Worker proc VllmWorker-1 died unexpectedly (exit code: -9), shutting down executor.", bare=True),
    # The hub, before what a refusal of it looks like: it hides what does not exist behind a 401.
    sign("MODEL_REF", r"(?:Repository|Revision|RemoteEntry|LocalEntry)NotFoundError|(?:Repository"
          r"|Revision) Not Found for",
          "huggingface_hub.errors.RepositoryNotFoundError: 401 Client Error. (Request ID: Root=1-67)"),
    sign("MODEL_REF", r"HTTPSConnectionPool|(?:httpx|httpcore)\.(?:\w*Connect\w*|\w*Timeout|ProxyError"
          r"|RemoteProtocolError)"
          r"|(?:huggingface\.co|hf\.co|hf-mirror).{0,300}(?:Max retries|NameResol|[Tt]imed out|unreachable|refused)"
          r"|resolve '?(?:\w+\.)*(?:huggingface|hf|hf-mirror)\.co",
          "httpx.ConnectError: [Errno -3] Temporary failure in name resolution"),
    # Who may read what.
    sign("PERMISSION", r"GatedRepoError|gated repo|LocalTokenNotFoundError|Access to model .* is restricted",
          "huggingface_hub.errors.GatedRepoError: 403 Client Error. (Request ID: Root=1-67)"),
    sign("PERMISSION", r"\b40[13] (?:Client Error|Forbidden|Unauthorized)|Invalid user token"
          r"|Invalid username or pass",
          "httpx.HTTPStatusError: 401 Client Error for url: https://huggingface.co/api/models/org/private"),
    sign("PERMISSION", r"^(?:\w+\.)*PermissionError\b|[Pp]ermission denied|Read-only file system"
          r"|Operation not permitted|There was a problem when trying to write in your cache folder",
          "PermissionError: [Errno 13] Permission denied: '/models/llama/config.json'"),
    # Ports and places in the group.
    sign("BAD_FLAG", r"^OSError: \[Errno 99\]|attempting to bind on address .*cannot assign requested",
          "OSError: [Errno 99] Cannot assign requested address"),
    sign("PORT_IN_USE", r"EADDRINUSE|[Aa]ddress already in use|port \d+ is already in use",
          "OSError: [Errno 98] Address already in use"),
    sign("PARALLEL_CFG", r"World size \(?\d+\)? is larger than the number of available GPUs",
          "  Value error, World size (16) is larger than the number of available GPUs (8) in this node."),
    sign("PARALLEL_CFG", r"must evenly divide the (?:total|daemon) world size"
          r"|must be (?:evenly )?divisible by (?:the )?(?:tensor|[te]p_size|number of data parallel node)"
          r"|nnodes > 1 can only be set",
          "ValueError: Invalid data-parallel launch options: `--nnodes 3` must evenly divide the total world size "
          "(2)."),
    sign("PARALLEL_CFG", r"`?--node-rank`? must be between|Pipeline parallelism is not supported for this model",
          "ValueError: Invalid data-parallel launch options: `--node-rank` must be between 0 and 1; got "
          "`--node-rank 2`."),
    sign("PARALLEL_CFG", r"Invalid data.parallel (?:launch options|configuration)"
          r"|[Cc]ontext parallelism .* requires|decode.context.parallel.size.* (?:exceeds|must be)"
          r"|does not match pp_size=|does not match num_hidden_layers|data_parallel_\w+ .*(?:must be"
          r"|can only be set)|headless mode$|^ValueError: tp_size=",
          "ValueError: len(partitions)=3 does not match pp_size=2."),
    sign("PARALLEL_CFG", r"is not divisible by (?:group_size|\d+$|tp_size|tensor.parallel|block_[nk])"
          r"|attention heads? .*must be (?:divisible|a multiple)|Duplicate GPU detected"
          r"|is not divisible by weight quantization block",
          "ValueError: Weight input_size_per_partition=688 is not divisible by group_size=128."),
    sign("PARALLEL_CFG", r"parallel size \(\d+\) cannot be larger than|local_world_size \(\d+\) (?:must be|exceeds)"
          r"|replica size \(\d+\) exceeds|caused by too large tensor parallel size"
          r"|exceeds the total number of available"
          r"|do not support external data parallel mode|must (?:not )?use --headless"
          r"|should not be called on follower node",
          "  Value error, Tensor parallel size (2) cannot be larger than the number of available GPUs (1)."),
    sign("PARALLEL_CFG", r"invalid device ordinal|DP adjusted local rank .* is out of bounds"
          r"|rank \d+ out of range for world_size|local.rank \d+ .*out of (?:range|bounds)",
          "torch.AcceleratorError: CUDA error: invalid device ordinal"),
    # Length.
    sign("BAD_MAX_LEN", r"User-specified max_model_len|max_model_len must be a positive integer"
          r"|max_num_batched_tokens \(\d+\) is smaller than max_model_len",
          "  Value error, User-specified max_model_len (262144) is greater than the derived max_model_len "
          "(max_position_embeddings=131072.0 or model_max_length=None in model's config.json)."),
    # The model as such.
    sign("MODEL_UNSUPPORTED", r"[Mm]odel architectures? .*(?:not supported|failed to be inspected"
          r"|was supported in vLLM)",
          "  Value error, Model architectures ['NewForCausalLM'] are not supported for now. Supported "
          "architectures:"),
    sign("MODEL_UNSUPPORTED", r"has model type .* but Transformers does not recognize|Cannot find model module"
          r"|Transformers implementation of .* is not compatible"
          r"|^ValueError: Unrecognized configuration class .* for this",
          "  Value error, The checkpoint you are trying to load has model type `newest` but Transformers does not "
          "recognize this architecture."),
    sign("MODEL_UNSUPPORTED", r"contains custom code which must be executed|requires you to execute (?:the|custom)"
          r"|Failed to load the model config\. If the model is a custom model",
          "  Value error, The repository /models/own contains custom code which must be executed to correctly "
          "load the model."),
    sign("MODEL_UNSUPPORTED", r"Unknown quantization method|[Qq]uantization method .*(?:not supported"
          r"|does not match|deprecated)|quantization is currently not supported"
          r"|Cannot find the config file for \w+(?: \[type=|$)"
          r"|Unsupported quantization config|is not supported for quantization|Quantization scheme is not supported"
          r"|Failed to find a kernel that can implement|type fp8\w+ not supported in this"
          r"|No \S+ compatible scheme was found",
          "  Value error, Unknown quantization method: int3_magic. Must be one of ['awq', 'fp8']"),
    sign("MODEL_UNSUPPORTED", r"Unsupported CPU attention configuration|[Hh]ead.?size .*not supported"
          r"|No valid (?:\w+ )*attention backend|No valid (?:CPU )?MLA prefill backend"
          r"|Selected backend .* is not valid|head_size \d+ is not supported",
          "RuntimeError: Unsupported CPU attention configuration: head_size=16, dtype=torch.float32"),
    sign("MODEL_UNSUPPORTED", r"Bfloat16 is only supported on GPUs|model type .* does not support float16|(?:model"
          r"|models) (?:does|do) not support `--(?:runner|task)|Model Runner V\d does not (?:yet )?support",
          "ValueError: Bfloat16 is only supported on GPUs with compute capability of at least 8.0."),
    # Weights.
    sign("WEIGHTS_MISSING", r"Weight files referenced in index but missing",
          "FileNotFoundError: Weight files referenced in index but missing: "
          "{'/models/x/model-00002-of-2.safetensors'}"),
    sign("WEIGHTS_MISSING", r"Cannot find any (?:safetensors )?model weights|Could not find checkpoint files"
          r"|Error no file named (?:model|pytorch_model)|does not appear to have a file named \S*(?:safetensors"
          r"|\.bin)|IncompleteSnapshotError|(?:No such file or directory|No such file).{0,300}\.(?:safetensors|bin"
          r"|pt)\b",
          "RuntimeError: Cannot find any model weights with `/models/llama`"),
    sign("WEIGHTS_MISSING", r"Following weights were not initialized from checkpoint"
          r"|^ValueError: Missing keys .* in load|was not found in the checkpoint, so the tied weight",
          "ValueError: Following weights were not initialized from checkpoint: "
          "{'model.layers.1.mlp.up_proj.weight'}"),
    sign("WEIGHTS_CORRUPT", r"Error while deserializing|incomplete metadata, file not fully covered|InvalidHeader"
          r"|MetadataIncompleteBuffer|PytorchStreamReader failed|UnpicklingError|invalid load key",
          "safetensors_rust.SafetensorError: Error while deserializing header: header too small"),
    sign("WEIGHTS_CORRUPT", r"Empty or invalid weight map|KeyError: 'weight_map'|Invalid checkpoint index entry"
          r"|Incomplete checkpoint headers|Consistency check failed|mmap length is greater than file size",
          "ValueError: Empty or invalid weight map"),
    sign("WEIGHTS_MISMATCH", r"Attempted to (?:load weight .*into parameter|load nested weight)|size mismatch for"
          r"|Tried to load weights of size|There is no module or parameter named|Error\(s\) in loading state_dict"
          r"|does not contain tensor"
          r"|[Ww]eight shape mismatch|shape mismatch between|KeyError: '(?:\w+\.)*(?:layers?|blocks?|h)\.\d+\.[\w.]+'"
          r"|KeyError: '[\w.]+\.(?:weight|bias|qweight|qzeros|scales|weight_scale\w*)'",
          "AssertionError: Attempted to load weight (torch.Size([512, 256])) into parameter (torch.Size([256, "
          "256]))"),
    # Tokenizer and configuration.
    sign("TOKENIZER", r"Can't load tokenizer for|Couldn't instantiate the backend tokenizer"
          r"|Failed to load the tokenizer|Unable to load vocabulary from file|No (?:valid )?tokenizer file found"
          r"|[Tt]okenizer class \S+ does not exist|to build an AutoTokenizer|No tokenizer registered for"
          r"|tokenizer must be a string",
          "OSError: Can't load tokenizer for '/models/llama'. If you were trying to load it from "
          "'https://huggingface.co/models', make sure you don't have a local directory with the same name."),
    sign("TOKENIZER", r"data did not match any variant of untagged enum|converting from Tiktoken failed"
          r"|Could not find tiktoken\.model|No such file or directory.{0,300}(?:tokenizer|tiktoken|tekken|vocab)\S*"
          r"|Cannot find 'tekken|sentencepiece_processor",
          "Exception: data did not match any variant of untagged enum ModelWrapper at line 757376 column 3"),
    sign("MODEL_REF", r"Invalid repository ID or local directory specified|Could not detect config format",
          "ValueError: Invalid repository ID or local directory specified: '/models/nowhere'."),
    sign("MODEL_REF", r"Repo id must (?:be in the form|use alphanumeric|be a string)|HFValidationError"
          r"|is not a local folder and is not a valid model identifier|EntryNotFoundError\b.*(?:404|outgoing traffic"
          r"|snapshot|locate)",
          "huggingface_hub.errors.HFValidationError: Repo id must be in the form 'repo_name' or "
          "'namespace/repo_name': '/models/nowhere'. Use `repo_type` argument if needed."),
    sign("MODEL_REF", r"does not appear to have a file named (?:config|params)\.json"
          r"|Can't load the configuration of|outgoing traffic has been disabled|[Ww]e couldn't connect to '"
          r"|offline mode is enabled|No such file or directory.{0,300}config\.json"
          r"|Cannot find the requested files in the (?:disk|local) cache|Failed to load mistral '\S+' config",
          "OSError: We couldn't connect to 'https://huggingface.co' to load the files, and couldn't find them in "
          "the cached files."),
    sign("CONFIG_BROKEN", r"is not a valid JSON file|Should have a `model_type` key|Validation error for field"
          r"|StrictDataclass\w*Error|No model architectures are specified|Unknown RoPE|Unrecognized model in",
          "OSError: It looks like the config file at '/models/x/config.json' is not a valid JSON file."),
    sign("CONFIG_BROKEN", r"module 'torch' has no attribute|'\w+Config' object has no attribute"
          r"|text_config extracted from the model config|rope_(?:scaling|parameters|type)\b.*(?:must|missing|Missing"
          r"|should|conflict|requires|Unknown)|Found conflicts between 'rope|^\W*(?:Value error, "
          r"|ValueError: )Unknown dtype|embed_dim \(.*not a multiple|must be equal to the number of layer types"
          r"|not a multiple of the number of atten",
          "AttributeError: module 'torch' has no attribute 'float33'"),
)  # fmt: skip
