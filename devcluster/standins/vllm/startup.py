"""Starts a rank: checks, rendezvous, weights, and then serving (leader) or working (the others)."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NoReturn

from devcluster.standins.vllm import VERSION, failures, logs
from devcluster.standins.vllm.arguments import ServeOptions, parse
from devcluster.standins.vllm.checks import ModelConfig, check_model, check_parallel
from devcluster.standins.vllm.failures import PROCESS, StartupError
from devcluster.standins.vllm.faults import Faults

if TYPE_CHECKING:
    from devcluster.standins.vllm.share import Share
    from devcluster.standins.vllm.wire import Channel

_BYTES_A_CACHED_TOKEN_AND_CHANNEL = 2 * 4
"""Key and value, in float32."""
_GRAPHS = 35


def run(arguments: list[str]) -> int:
    """Run a command line to its end; return the exit code."""
    options = parse(arguments)
    _exit_on_sigterm()
    faults = Faults.from_environment(os.environ, options.node_rank)
    logs.become("MainProcess" if options.headless else "APIServer")
    logs.info(
        "devcluster", f"DEVCLUSTER STAND-IN for vLLM {VERSION}: real tokens, computed with numpy; no GPU is used."
    )
    if not options.headless:
        logs.info("api_utils.py:347", f"version {VERSION}")
        logs.info("api_utils.py:347", f"model   {options.model}")
        logs.info("api_utils.py:286", f"non-default args: {options.given}")
    try:
        return _start(options, faults)
    except StartupError as error:
        _tell(error, headless=options.headless)
        return 1


def _start(options: ServeOptions, faults: Faults) -> int:
    check_parallel(options, os.environ)
    faults.reach(PROCESS, _words(options, 131072))
    model = check_model(options)
    logs.info("model.py:530", f"Resolved architecture: {model.name}")
    logs.info("model.py:1545", f"Using max model len {model.max_model_len}")
    return _follow(options, model, faults) if options.headless else _lead(options, model, faults)


def _lead(options: ServeOptions, model: ModelConfig, faults: Faults) -> int:
    # What only the leader needs is imported here: a worker starts in half the time without it.
    from devcluster.standins.vllm import leader, server  # noqa: PLC0415

    with _bound(options) as holder:
        text = leader.text_model(options)
        service = leader.start_engine(options, model, faults, text)
        return server.serve(options, service, holder)


def _bound(options: ServeOptions) -> socket.socket:
    from devcluster.standins.vllm import server  # noqa: PLC0415

    try:
        return server.bind(options)
    except OSError as error:
        raise StartupError(failures.PORT, PROCESS, "vllm/entrypoints/launchers/launcher.py") from error


def _follow(options: ServeOptions, model: ModelConfig, faults: Faults) -> int:
    from devcluster.standins.vllm.pipeline import work  # noqa: PLC0415
    from devcluster.standins.vllm.rendezvous import join  # noqa: PLC0415

    address = f"{options.master_addr}:{options.master_port}"
    logs.info(
        "serve.py:186",
        f"Launching vLLM (v{VERSION}) headless multiproc executor, with head node address {address} for "
        "torch.distributed process group.",
    )
    say_rendezvous(options, faults)
    place = join(options)
    share = load_share(options, model, faults)
    reserve_cache(options, model, faults)
    faults.reach(failures.ENGINE_UP)
    _answer(place.leader, {"ready": options.node_rank, "layout": layout(options, model)})
    faults.start_crash_clock()
    logs.error("multiproc_executor.py:298", f"{work(share, place)}. Shutting down.")
    return 1


def _answer(leader: Channel, message: Mapping[str, object]) -> None:
    try:
        leader.send(message)
    except OSError as error:
        text = failures.PEER_LOST.format(peer=leader.address[0], port=leader.address[1])
        raise StartupError(text, failures.KV_CACHE, "torch/distributed/distributed_c10d.py") from error


def layout(options: ServeOptions, model: ModelConfig) -> list[object]:
    """What the key-value cache of every rank is made by: ranks that differ in it cannot serve together."""
    arch = model.architecture
    dtype = model.dtype if options.dtype == "auto" else options.dtype
    return [dtype, arch.num_key_value_heads // min(arch.num_key_value_heads, options.tensor_parallel), arch.head_dim]


def _worker_name(options: ServeOptions) -> str:
    local = options.world_size // options.nnodes
    rank = options.node_rank * local
    stage, place = divmod(rank, options.tensor_parallel)
    name = f"Worker_PP{stage}" if options.pipeline_parallel > 1 else "Worker"
    return f"{name}_TP{place}" if options.tensor_parallel > 1 else name


def say_rendezvous(options: ServeOptions, faults: Faults) -> None:
    """Log the process group that is to be joined, or fail to join it."""
    logs.become(_worker_name(options))
    local = options.world_size // options.nnodes
    logs.info(
        "parallel_state.py:1208",
        f"world_size={options.world_size} rank={options.node_rank * local} local_rank=0 "
        f"distributed_init_method=tcp://{options.master_addr}:{options.master_port} backend=nccl",
    )
    logs.info("pynccl.py:111", "vLLM is using nccl==2.27.5")
    faults.reach(failures.RENDEZVOUS, _words(options, 0))


def load_share(options: ServeOptions, model: ModelConfig, faults: Faults) -> Share:
    """Load this rank's weights."""
    from devcluster.standins.vllm.share import Share  # noqa: PLC0415
    from devcluster.standins.vllm.weights import load_weights, needed_tensors  # noqa: PLC0415

    started = time.monotonic()
    faults.reach(failures.DEVICE)
    logs.info("gpu_model_runner.py:3551", f"Starting to load model {options.model}...")
    shard = options.model / "model-00002-of-00005.safetensors"
    needed = needed_tensors(model.architecture, options.node_rank, options.nnodes)
    weights, seconds = load_weights(
        options.model,
        needed,
        faults.load_seconds,
        _bar(options),
        lambda: faults.reach(failures.WEIGHTS, {"files": {str(shard)}, "file": shard}),
    )
    share = Share(model.architecture, weights, options.node_rank, options.nnodes)
    gibibytes = sum(tensor.nbytes for tensor in weights.values()) / 2**30
    logs.info("default_loader.py:314", f"Loading weights took {seconds:.2f} seconds")
    took = time.monotonic() - started
    logs.info("gpu_model_runner.py:3626", f"Model loading took {gibibytes:.4f} GiB memory and {took:.6f} seconds")
    return share


def _bar(options: ServeOptions) -> Callable[[int, int], None]:
    """Only the first of all ranks draws a bar; each says what it prefetches."""
    started = time.monotonic()

    def show(done: int, total: int) -> None:
        if options.prefetch:
            logs.prefetched(done, total, time.monotonic() - started)
        if options.node_rank == 0:
            logs.shard_bar(done, total, time.monotonic() - started)

    return show


def reserve_cache(options: ServeOptions, model: ModelConfig, faults: Faults) -> None:
    """Log the compile, cache and graph phases, or fail where the longest request would not fit the cache."""
    from devcluster.standins.vllm.engine import cache_tokens  # noqa: PLC0415

    if not options.enforce_eager:
        logs.info("gpu_model_runner.py:4102", "Starting torch.compile")
        logs.info("backends.py:644", "Using cache directory: /root/.cache/vllm/torch_compile_cache for torch.compile")
        logs.info("backends.py:704", "Dynamo bytecode transform time: 0.00 s")
        faults.reach(failures.COMPILE)
        time.sleep(faults.compile_seconds)
        logs.info("backends.py:261", "Directly load the compiled graph(s) for compile range (1, 2048) from the cache")
        logs.info("monitor.py:34", f"torch.compile took {faults.compile_seconds:.2f} s in total")
    arch = model.architecture
    each = arch.num_hidden_layers * arch.num_key_value_heads * arch.head_dim * _BYTES_A_CACHED_TOKEN_AND_CHANNEL
    room = cache_tokens(options.gpu_memory_utilization)
    if room < model.max_model_len:
        needed, available = model.max_model_len * each / 2**30, room * each / 2**30
        text = failures.KV_TOO_SMALL.format(
            asked=model.max_model_len, needed=needed, available=available, possible=room
        )
        raise StartupError(text, failures.KV_CACHE, "vllm/v1/core/kv_cache_planning.py")
    logs.info("gpu_worker.py:359", f"Available KV cache memory: {room * each / 2**30:.2f} GiB")
    concurrency = f"{room / model.max_model_len:.2f}x"
    logs.info("kv_cache_utils.py:1229", f"GPU KV cache size: {room:,} tokens, Maximum concurrency: {concurrency}")
    faults.reach(failures.KV_CACHE)
    if not options.enforce_eager:
        _capture(options, faults)


def _capture(options: ServeOptions, faults: Faults) -> None:
    logs.info("gpu_model_runner.py:6304", "Profiling CUDA graph memory: PIECEWISE=35 (largest=512)")
    faults.reach(failures.GRAPH_CAPTURE)
    if options.node_rank == 0:
        logs.graph_bar(_GRAPHS, faults.graph_seconds)
    logs.info("gpu_model_runner.py:6517", f"Graph capturing finished in {faults.graph_seconds:.0f} secs, took 0.00 GiB")


def _words(options: ServeOptions, derived: int) -> dict[str, object]:
    return {
        "model": options.model,
        "asked": options.max_model_len or 2 * derived,
        "derived": float(derived),
        "world": options.world_size,
        "gpus": 0,
        "names": [None],
        "file": options.model / "config.json",
        "timeout_ms": int(options.distributed_timeout_seconds * 1000),
        "address": options.master_addr,
        "port": options.master_port,
    }


def _tell(error: StartupError, *, headless: bool) -> None:
    """Write the end of a start the way the processes of one node do: first who failed, then who hears of it."""
    words = logs.traceback(str(error), error.where)
    if error.phase == PROCESS:
        logs.bare(words)
        return
    if logs.role().startswith("Worker"):
        logs.error("multiproc_executor.py:953", f"WorkerProc failed to start.\n{words}")
        words = logs.traceback(failures.IN_BACKGROUND, "vllm/v1/executor/multiproc_executor.py")
    if not headless:
        logs.become("EngineCore")
        logs.error("core.py:1510", f"EngineCore failed to start.\n{words}")
        words = logs.traceback(
            "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}",
            "vllm/v1/engine/utils.py",
        )
    logs.bare(words)


def _exit_on_sigterm() -> None:
    # A container's first process ignores signals it has no handler for.
    def leave(_number: int, _frame: object) -> NoReturn:
        sys.exit(0)

    signal.signal(signal.SIGTERM, leave)
