"""The words in which an image, a peer, the fabric or the engine itself breaks; and what parsers of flags say."""

from __future__ import annotations

from typing import Final

from llm_rollout.coldstart.signature import sign

ROWS: Final = (
    # The image and the machine.
    sign("NCCL", r"Failed to load NCCL library",
          "Failed to load NCCL library from libnccl.so.2. It is expected if you are not running on "
          "NVIDIA/AMD GPUs.", soft=True),
    sign("RAY_FAIL", r"Failed to import Ray|No module named 'ray'|Ray is not installed",
          "ValueError: Failed to import Ray: No module named 'ray'. Please install Ray with `pip install ray`."),
    sign("MISSING_DEPENDENCY", r"^(?:\w+\.)*(?:ModuleNotFoundError|ImportError|PackageNotFoundError): "
          r"|cannot open shared object file|error while loading shared libraries|undefined symbol"
          r"|GLIBC(?:XX)?_[\d.]+' not found",
          "ImportError: libcudart.so.12: cannot open shared object file: No such file or directory"),
    sign("MISSING_DEPENDENCY", r"Found no NVIDIA driver|NVIDIA driver on your system is too old"
          r"|No CUDA GPUs are availab|Failed to infer device type|driver version is insufficient"
          r"|system not yet initialized|unsupported display driver|no kernel image is available"
          r"|device kernel image is invalid|invalid device function"
          r"|unsupported toolchain|CUDA driver initialization failed|no CUDA-capable device|NVMLError_"
          r"|InstantTensor requires NVIDIA|Torch not compiled with CUDA|forward compatibility was attempted",
          "RuntimeError: Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU and "
          "installed a driver"),
    sign("MISSING_DEPENDENCY", r"(?:vllm|python3?|ray): (?:command )?not found|executable file not found"
          r"|exec: \S+: not found|Please install \S+ (?:via|with|by)|Failed to find C compiler"
          r"|requires the \S+ package|[Ee]xec format error|nvidia-container-cli|Could not find nvcc"
          r"|CUDA_HOME environment variable is not set|Ninja is required",
          "bash: line 1: vllm: command not found"),
    # Other ranks: the peer that ended, the fabric, the meeting that did not happen.
    sign("PEER_LOST", r"ncclRemoteError|remote process (?:exited|has terminated)|remote process exiting prematurely",
          "RuntimeError: NCCL error: remote process exited or there was a network error"),
    sign("PEER_LOST", r"Connection closed by peer|[Cc]onnection reset by peer|^(?:\w+\.)*BrokenPipeError"
          r"|Broken pipe|failed to recv, got 0 bytes|Failed to recv, got|remote server shutdown or crash"
          r"|sendBytes failed|recvValue(?:WithTimeout)? failed|Socket closed while receiving"
          r"|Failed to read from the socket|Connection was likely closed",
          "RuntimeError: [/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer "
          "[10.0.0.2]:41321"),
    sign("TIMEOUT", r"RPC call to \S+ timed out",
          "TimeoutError: RPC call to execute_model timed out."),
    sign("PEER_LOST", r"ActorDiedError|RayActorError|ActorUnavailableError|node (?:was|has been) terminated"
          r"|NodeDiedError|The actor (?:died (?:unexpectedly|because)|is dead)|A worker died or was killed while",
          "ray.exceptions.ActorDiedError: The actor died unexpectedly before finishing this task."),
    sign("RAY_WAIT", r"Cannot provide a placement group|Ray worker starts timeout|Timed out waiting for .*Ray"
          r"|ray.* (?:nodes|workers) .*timed? ?out|Not enough resources to allocate \d+",
          "ValueError: Cannot provide a placement group requiring 16 GPUs (placement_group_specs=[{'GPU': 1.0}]) "
          "within 1800 seconds."),
    sign("RAY_FAIL", r"ray\.exceptions\.(?!RayTaskError)|Ray (?:head|cluster|runtime|Compiled)\b.*(?:fail|not|error)"
          r"|Could not connect to (?:the )?(?:Ray|GCS)|Failed to connect to GCS|Could not find any running Ray"
          r"|[Ff]ailed to (?:connect|start) .*[Rr]ay\b|Ray does not allocate any"
          r"|is not included in a placement group|Current node has no \w+ available"
          r"|No nodes with resources found in Ray|DP master node .* is missing or dead|found in Ray cluster",
          "ConnectionError: Could not find any running Ray instance. Please specify the one to connect to"),
    sign("NCCL", r"NCCL error|ncclSystemError|ncclInternalError|ncclUnhandledCudaError|ncclInvalidUsage"
          r"|ncclInvalidArgument|Watchdog caught collective operation timeout|failed to load the NCCL library"
          r"|unhandled (?:system|cuda) error|No PyNCCL communicator"
          r"|NCCL WARN (?:Bootstrap : no socket interface|Failed to initialize any NET plugin)",
          "RuntimeError: NCCL error: unhandled system error (run with NCCL_DEBUG=INFO for details)"),
    sign("RENDEZVOUS", r"client socket has (?:timed out after|failed to connect)"
          r"|Timed out after \d+ seconds waiting for clients|wait timeout after \d+ ?ms|DistNetworkError"
          r"|DistStoreError",
          "torch.distributed.DistNetworkError: The client socket has timed out after 600000ms while trying to "
          "connect to (llama-0.llama.default, 29501)."),
    sign("RENDEZVOUS", r"Name or service not known|Temporary failure in name resolution|nodename nor servname"
          r"|cannot be retrieved \(gai error|No address associated with hostname|getaddrinfo",
          "socket.gaierror: [Errno -2] Name or service not known"),
    sign("RENDEZVOUS", r"connectFullMesh failed|Connection refused|No route to host|Network is unreachable"
          r"|Unable to find address for|Connect timeout \[|Cannot assign requested address|connect timeout"
          r"|[Cc]onnection timed out",
          "RuntimeError: Gloo connectFullMesh failed with [../third_party/gloo/gloo/transport/tcp/pair.cc:144] no "
          "error"),
    sign("TIMEOUT", r"Timed out waiting for (?:new )?engine core|Did not receive response from front-end"
          r"|Barrier (?:departure )?timed out|failed to report ZMQ addresses|Timed out waiting \d+ ?ms for"
          r"|Application timeout caused pair closure|TimeoutError: Timed out",
          "TimeoutError: Timed out waiting for engine core processes to start. This is often caused by slow "
          "weight loading for large models."),
    # The command line; after the rest, since a refusal of a value may say more.
    sign("BAD_FLAG", r"\berror: (?:unrecognized arguments|argument |the following arguments are required"
          r"|ambiguous option|one of the arguments|expected )|invalid choice:|^\w*: error: |^vllm[\w .-]*: error: ",
          "vllm serve: error: argument --dtype: invalid choice: 'float7' (choose from 'auto', 'half', 'float16')"),
    sign("BAD_FLAG", r"Unknown vLLM environment variable|Unexpected extra config keys"
          r"|Load format \S+ is not supported|Unknown load_format|are mutually exclusive"
          r"|Unrecognized distributed executor backend|Unknown distributed executor backend|Invalid kv_cache_dtype"
          r"|Unsupported speculative method|\bInput should be |Unexpected keyword argument"
          r"|Extra inputs are not permitted|No common block size for \d|port must be 0-65535"
          r"|\b[Pp]arser '?\S+ not found|[Ii]nvalid (?:tool call|reasoning) parser"
          r"|[Ee]rror: .*--[\w-]+\W{0,2} (?:requires|needs|cannot be used|can only be used|must be) ",
          "  Input should be less than or equal to 1 [type=less_than_equal, input_value=1.5, input_type=float]"),
    # The engine itself.
    sign("ENGINE_BUG", r"an illegal memory access|device-side assert|misaligned address"
          r"|illegal instruction was encount|unspecified launch failure|CUBLAS_STATUS_(?:EXECUTION_FAILED"
          r"|INTERNAL_ERROR)|invalid configuration argument",
          "torch.AcceleratorError: CUDA error: an illegal memory access was encountered"),
    sign("ENGINE_BUG", r"Segmentation fault|Segfault encountered|InductorError|BackendCompilerFailed"
          r"|Fatal Python error|torch\._dynamo\.exc\.|triton\.compiler\.errors|PassManager::run failed"
          r"|died unexpectedly \(exit code: -(?:11|6|4)\)",
          "Fatal Python error: Segmentation fault"),
)  # fmt: skip
