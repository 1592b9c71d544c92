"""Starts a rank: checks, rendezvous, weights, and then serving (leader) or working (the others)."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import TYPE_CHECKING, NoReturn

from devcluster.standins.vllm import VERSION, failures, logs
from devcluster.standins.vllm.arguments import ServeOptions, parse
from devcluster.standins.vllm.checks import ModelConfig, check_model, check_parallel
from devcluster.standins.vllm.failures import CONFIG, KV_CACHE, StartupError
from devcluster.standins.vllm.faults import Faults

if TYPE_CHECKING:
    from devcluster.standins.vllm.share import Share

_BYTES_A_CACHED_TOKEN_AND_CHANNEL = 2 * 4
"""Key and value, in float32."""


def run(arguments: list[str]) -> int:
    """Run a command line to its end; return the exit code."""
    options = parse(arguments)
    _exit_on_sigterm()
    faults = Faults.from_environment(os.environ, options.node_rank)
    logs.become("Worker" if options.headless else "APIServer")
    logs.info(
        "devcluster", f"DEVCLUSTER STAND-IN for vLLM {VERSION}: real tokens, computed with numpy; no GPU is used."
    )
    logs.info("startup.py:28", f"vLLM API server version {VERSION}, model {options.model}")
    logs.info("utils.py:233", f"non-default args: {' '.join(options.given)}")
    try:
        return _start(options, faults)
    except StartupError as error:
        _tell(error)
        return 1


def _start(options: ServeOptions, faults: Faults) -> int:
    check_parallel(options, os.environ)
    faults.fail_at(CONFIG, _words(options, 131072))
    model = check_model(options)
    logs.info("model.py:530", f"Resolved architecture: {model.name}")
    logs.info("model.py:1545", f"Using max model len {model.max_model_len}")
    return _follow(options, model, faults) if options.headless else _lead(options, model, faults)


def _lead(options: ServeOptions, model: ModelConfig, faults: Faults) -> int:
    # What only the leader needs is imported here: a worker starts in half the time without it.
    from devcluster.standins.vllm import leader, server  # noqa: PLC0415

    try:
        holder = server.bind(options)
    except OSError as error:
        raise StartupError(f"OSError: {error} (port {options.port})", CONFIG) from error
    service = leader.start_engine(options, model, faults)
    return server.serve(options, service, holder)


def _follow(options: ServeOptions, model: ModelConfig, faults: Faults) -> int:
    from devcluster.standins.vllm.pipeline import work  # noqa: PLC0415
    from devcluster.standins.vllm.rendezvous import join  # noqa: PLC0415

    address = f"{options.master_addr}:{options.master_port}"
    logs.info(
        "serve.py:186",
        f"Launching vLLM (v{VERSION}) headless multiproc executor, with head node address {address} for "
        "torch.distributed process group.",
    )
    logs.become(f"Worker_PP{options.node_rank}")
    say_rendezvous(options, faults)
    place = join(options)
    share = load_share(options, model, faults)
    reserve_cache(options, model, faults)
    faults.fail_at(failures.READY, {})
    place.leader.send({"ready": options.node_rank})
    faults.start_crash_clock()
    logs.error("multiproc_executor.py:298", f"{work(share, place)}. Shutting down.")
    return 1


def say_rendezvous(options: ServeOptions, faults: Faults) -> None:
    """Log the process group that is to be joined, or fail to join it."""
    local = options.world_size // options.nnodes
    logs.info(
        "parallel_state.py:1208",
        f"world_size={options.world_size} rank={options.node_rank * local} local_rank=0 "
        f"distributed_init_method=tcp://{options.master_addr}:{options.master_port} backend=nccl",
    )
    logs.info("pynccl.py:111", "vLLM is using nccl==2.27.5")
    faults.fail_at(failures.RENDEZVOUS, _words(options, 0))


def load_share(options: ServeOptions, model: ModelConfig, faults: Faults) -> Share:
    """Load this rank's weights."""
    from devcluster.standins.vllm.share import Share  # noqa: PLC0415
    from devcluster.standins.vllm.weights import load_weights, needed_tensors  # noqa: PLC0415

    started = time.monotonic()
    faults.fail_at(failures.DEVICE, {})
    logs.info("gpu_model_runner.py:3551", f"Starting to load model {options.model}...")
    faults.fail_at(failures.WEIGHTS, {"files": {str(options.model / "model-00002-of-00005.safetensors")}})
    needed = needed_tensors(model.architecture, options.node_rank, options.nnodes)
    weights, seconds = load_weights(options.model, needed, faults.load_seconds)
    share = Share(model.architecture, weights, options.node_rank, options.nnodes)
    gibibytes = sum(tensor.nbytes for tensor in weights.values()) / 2**30
    logs.info("default_loader.py:314", f"Loading weights took {seconds:.2f} seconds")
    took = time.monotonic() - started
    logs.info("gpu_model_runner.py:3626", f"Model loading took {gibibytes:.4f} GiB memory and {took:.6f} seconds")
    return share


def reserve_cache(options: ServeOptions, model: ModelConfig, faults: Faults) -> None:
    """Log the compile, cache and graph phases, or fail where the longest request would not fit the cache."""
    from devcluster.standins.vllm.engine import cache_tokens  # noqa: PLC0415

    if not options.enforce_eager:
        logs.info("backends.py:644", "Using cache directory: /root/.cache/vllm/torch_compile_cache for torch.compile")
        logs.info("backends.py:704", "Dynamo bytecode transform time: 0.00 s")
        logs.info("backends.py:261", "Directly load the compiled graph(s) for compile range (1, 2048) from the cache")
        logs.info("monitor.py:34", "torch.compile took 0.00 s in total")
    faults.fail_at(KV_CACHE, {})
    arch = model.architecture
    each = arch.num_hidden_layers * arch.num_key_value_heads * arch.head_dim * _BYTES_A_CACHED_TOKEN_AND_CHANNEL
    room = cache_tokens(options.gpu_memory_utilization)
    if room < model.max_model_len:
        needed, available = model.max_model_len * each / 2**30, room * each / 2**30
        text = failures.KV_TOO_SMALL.format(
            asked=model.max_model_len, needed=needed, available=available, possible=room
        )
        raise StartupError(text, KV_CACHE)
    logs.info("gpu_worker.py:359", f"Available KV cache memory: {room * each / 2**30:.2f} GiB")
    concurrency = f"{room / model.max_model_len:.2f}x"
    logs.info("kv_cache_utils.py:1229", f"GPU KV cache size: {room:,} tokens, Maximum concurrency: {concurrency}")
    if not options.enforce_eager:
        logs.info("gpu_model_runner.py:4466", "Graph capturing finished in 0 secs, took 0.00 GiB")


def _words(options: ServeOptions, derived: int) -> dict[str, object]:
    return {
        "model": options.model,
        "asked": options.max_model_len or 2 * derived,
        "derived": float(derived),
        "world": options.world_size,
        "gpus": 0,
        "timeout_ms": int(options.distributed_timeout_seconds * 1000),
        "address": options.master_addr,
        "port": options.master_port,
    }


def _tell(error: StartupError) -> None:
    """Write the end of a start the way the process does where that phase runs."""
    if error.phase == CONFIG:
        logs.plain(f"Traceback (most recent call last):\n  ...\n{error}")
        return
    if logs.role().startswith("Worker"):
        logs.error(
            "multiproc_executor.py:772",
            f"WorkerProc failed to start.\nTraceback (most recent call last):\n  ...\n{error}",
        )
        return
    logs.error("core.py:866", f"EngineCore failed to start.\nTraceback (most recent call last):\n  ...\n{error}")
    logs.become("APIServer")
    logs.plain("RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}")


def _exit_on_sigterm() -> None:
    # A container's first process ignores signals it has no handler for.
    def leave(_number: int, _frame: object) -> NoReturn:
        sys.exit(0)

    signal.signal(signal.SIGTERM, leave)
