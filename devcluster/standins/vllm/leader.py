"""The leader's way from its checks to a running engine."""

from __future__ import annotations

import time

from devcluster.standins.vllm import VERSION, failures, logs
from devcluster.standins.vllm.api import Service
from devcluster.standins.vllm.arguments import ServeOptions
from devcluster.standins.vllm.checks import ModelConfig
from devcluster.standins.vllm.engine import Engine
from devcluster.standins.vllm.failures import READY, StartupError
from devcluster.standins.vllm.faults import Faults
from devcluster.standins.vllm.generation import Generator
from devcluster.standins.vllm.metrics import Metrics
from devcluster.standins.vllm.pipeline import Pipeline
from devcluster.standins.vllm.rendezvous import Group, gather
from devcluster.standins.vllm.startup import load_share, reserve_cache, say_rendezvous
from devcluster.standins.vllm.text import TextModel


def start_engine(options: ServeOptions, model: ModelConfig, faults: Faults) -> Service:
    """Bring the group together, load, and return what the endpoints need.

    Raises:
        StartupError: In vLLM's words.
    """
    logs.become("EngineCore")
    logs.info("core.py:107", f"Initializing a V1 LLM engine (v{VERSION}) with config: model={options.model}")
    logs.info("multiproc_executor.py:101", f"DP group leader: node_rank={options.node_rank}, nnodes={options.nnodes}")
    say_rendezvous(options, faults)
    group = gather(options)
    share = load_share(options, model, faults)
    started = time.monotonic()
    reserve_cache(options, model, faults)
    await_workers(group)
    faults.fail_at(READY, {})
    took = time.monotonic() - started
    logs.info("core.py:259", f"init engine (profile, create kv cache, warmup model) took {took:.2f} seconds")
    logs.become("APIServer")
    logs.info("api_server.py:1330", "Supported tasks: ['generate']")
    faults.start_crash_clock()
    return _service(options, model, faults, Pipeline(share, group))


def _service(options: ServeOptions, model: ModelConfig, faults: Faults, pipeline: Pipeline) -> Service:
    engine = Engine(
        pipeline,
        faults,
        max_num_seqs=options.max_num_seqs,
        vocabulary=model.architecture.vocab_size,
        memory_utilization=options.gpu_memory_utilization,
    )
    text = _text_model(options)
    metrics = Metrics(options.served_names[0])
    return Service(
        names=options.served_names,
        root=str(options.model),
        created=int(time.time()),
        api_keys=options.api_keys,
        model=model,
        text=text,
        engine=engine,
        generator=Generator(engine, text, metrics, faults, model.eos_ids),
        metrics=metrics,
    )


def await_workers(group: Group) -> None:
    """Wait until every worker has loaded.

    Raises:
        StartupError: One died before.
    """
    for rank, channel in group.workers.items():
        try:
            channel.receive()
        except (OSError, ValueError) as error:
            text = (
                f"Exception: WorkerProc initialization failed due to an exception in a background process. Worker proc "
                f"VllmWorker-{rank} died unexpectedly ({error})."
            )
            raise StartupError(text, READY) from error


def _text_model(options: ServeOptions) -> TextModel:
    try:
        return TextModel(options.model, options.chat_template)
    except (OSError, ValueError, KeyError) as error:
        text = f"OSError: Can't load tokenizer for '{options.model}': {error}"
        raise StartupError(text, failures.CONFIG) from error
