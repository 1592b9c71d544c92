"""The leader's way from its checks to a running engine."""

from __future__ import annotations

import time

from devcluster.standins.vllm import VERSION, failures, logs
from devcluster.standins.vllm.api import Service
from devcluster.standins.vllm.arguments import ServeOptions
from devcluster.standins.vllm.checks import ModelConfig
from devcluster.standins.vllm.engine import Engine
from devcluster.standins.vllm.failures import ENGINE_UP, KV_CACHE, PROCESS, StartupError
from devcluster.standins.vllm.faults import Faults
from devcluster.standins.vllm.generation import Generator
from devcluster.standins.vllm.metrics import Metrics
from devcluster.standins.vllm.pipeline import Pipeline
from devcluster.standins.vllm.rendezvous import Group, gather
from devcluster.standins.vllm.startup import layout, load_share, reserve_cache, say_rendezvous
from devcluster.standins.vllm.text import TextModel


def start_engine(options: ServeOptions, model: ModelConfig, faults: Faults, text: TextModel) -> Service:
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
    await_workers(group, layout(options, model))
    logs.become("EngineCore")
    faults.reach(ENGINE_UP)
    took = time.monotonic() - started
    logs.info("core.py:259", f"init engine (profile, create kv cache, warmup model) took {took:.2f} seconds")
    logs.become("APIServer")
    logs.info("api_server.py:1330", "Supported tasks: ['generate']")
    faults.start_crash_clock()
    return _service(options, model, faults, text, Pipeline(share, group))


def _service(options: ServeOptions, model: ModelConfig, faults: Faults, text: TextModel, pipeline: Pipeline) -> Service:
    engine = Engine(
        pipeline,
        faults,
        max_num_seqs=options.max_num_seqs,
        vocabulary=model.architecture.vocab_size,
        memory_utilization=options.gpu_memory_utilization,
    )
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


def await_workers(group: Group, own: list[object]) -> None:
    """Wait until every worker has loaded, to the same layout as the leader's ``own``.

    Raises:
        StartupError: One died before, or laid its cache out differently.
    """
    for channel in group.workers.values():
        try:
            ready, _ = channel.receive()
        except (OSError, ValueError) as error:
            host, port = channel.address
            text = failures.PEER_LOST.format(peer=host, port=port)
            raise StartupError(text, KV_CACHE, "torch/distributed/distributed_c10d.py") from error
        if ready["layout"] != own:
            logs.become("EngineCore")
            raise StartupError(failures.FLAGS_DISAGREE, KV_CACHE, "vllm/v1/core/kv_cache_planning.py")


def text_model(options: ServeOptions) -> TextModel:
    """The tokenizer.

    Raises:
        StartupError: It is missing or broken.
    """
    try:
        return TextModel(options.model, options.chat_template)
    except FileNotFoundError as error:
        where = "transformers/tokenization_utils_tokenizers.py"
        raise StartupError(failures.NO_TOKENIZER, PROCESS, where) from error
    except Exception as error:  # The tokenizers library raises nothing more specific.
        text = f"json.decoder.JSONDecodeError: {error}"
        raise StartupError(text, PROCESS, "transformers/tokenization_utils_base.py") from error
