"""Starts that end because of what they were given: models, flags and settings, each spoiled in one way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from devcluster.engines.corpus import playing
from devcluster.engines.corpus.running import AS_IS
from devcluster.engines.corpus.scenarios import NO_ROOT, Scenario, alone


def _spoiled(model: str, phase: str, class_name: str, **more: Any) -> Scenario:
    return Scenario(model, phase, class_name, alone(model=model), **more)


def _flagged(name: str, class_name: str | None, *arguments: str, **more: Any) -> Scenario:
    phase, env = more.pop("phase", "process"), more.pop("env", {})
    return Scenario(name, phase, class_name, alone(*arguments, env=env), **more)


MODELS = (
    Scenario("hub-name-offline", "process", "MODEL_REF", alone(model=f"{AS_IS}org/none")),
    _spoiled("empty-folder", "process", "MODEL_REF"),
    _spoiled("empty-config", "process", "CONFIG_BROKEN"),
    _spoiled("config-of-nothing", "process", "CONFIG_BROKEN"),
    _spoiled("config-is-a-list", "process", "CONFIG_BROKEN"),
    Scenario("no-architectures", "serving", None, alone(model="no-architectures"), play=playing.serve_and_cut,
             first=None, note="the architecture follows from the model type"),
    _spoiled("odd-heads", "process", "CONFIG_BROKEN"),
    _spoiled("other-vocabulary", "weights", "WEIGHTS_MISMATCH"),
    _spoiled("rope-without-factor", "process", "CONFIG_BROKEN"),
    _spoiled("unknown-rope", "weights", "CONFIG_BROKEN"),
    _spoiled("empty-index", "weights", "WEIGHTS_CORRUPT"),
    _spoiled("more-tensors", "weights", "WEIGHTS_MISMATCH"),
    _spoiled("huge-header", "weights", "WEIGHTS_CORRUPT"),
    _spoiled("zeros-for-a-shard", "weights", "WEIGHTS_CORRUPT"),
    _spoiled("dangling-link", "weights", "WEIGHTS_MISSING"),
    _spoiled("pickled-garbage", "weights", "WEIGHTS_CORRUPT"),
    _spoiled("tokenizer-of-nothing", "process", "TOKENIZER"),
    _spoiled("binary-tokenizer", "process", "TOKENIZER"),
    _spoiled("tokenizer-file-missing", "process", "TOKENIZER"),
    _flagged("tokenizer-nowhere", "TOKENIZER", "--tokenizer=/models/nowhere", env={"HF_HUB_OFFLINE": "0"},
             note="offline, it is refused in the words of a model that is nowhere"),
    _flagged("weights-of-another-format", "WEIGHTS_MISSING", "--load-format=pt", phase="weights"),
    _flagged("draft-nowhere", "MODEL_REF",
             '--speculative-config={{"model": "/models/nowhere", "num_speculative_tokens": 2}}'),
    _flagged("adapter-nowhere", "MODEL_REF", "--enable-lora", "--lora-modules", "own=/models/nowhere",
             phase="engine_up"),
)  # fmt: skip

FLAGS = (
    _flagged("len-of-zero", "BAD_MAX_LEN", "--max-model-len=0"),
    _flagged("len-of-a-word", "BAD_FLAG", "--max-model-len=long"),
    _flagged("tensor-parallel-of-zero", "PARALLEL_CFG", "--tensor-parallel-size=0"),
    _flagged("rank-below-zero", "PARALLEL_CFG", "--tensor-parallel-size=2", "--nnodes=2", "--node-rank=-1",
             "--master-addr=127.0.0.1"),
    _flagged("data-rank-out-of-range", "PARALLEL_CFG", "--data-parallel-size=2", "--data-parallel-rank=5"),
    _flagged("more-local-than-all", "PARALLEL_CFG", "--data-parallel-size=2", "--data-parallel-size-local=3"),
    _flagged("unknown-cache-type", "BAD_FLAG", "--kv-cache-dtype=int3"),
    _flagged("quantized-it-is-not", "MODEL_UNSUPPORTED", "--quantization=awq"),
    _flagged("unknown-speculation", "BAD_FLAG",
             '--speculative-config={{"method": "magic", "num_speculative_tokens": 2}}'),
    _flagged("flag-without-value", "BAD_FLAG", "--served-model-name"),
    _flagged("flags-file-nowhere", "BAD_FLAG", "--config", "/runs/nowhere.yaml"),
    _flagged("template-nowhere", "BAD_FLAG", "--chat-template=/models/nowhere.jinja"),
    _flagged("cache-space-of-a-word", "BAD_FLAG", env={"VLLM_CPU_KVCACHE_SPACE": "lots"}),
    _flagged("share-above-one", "BAD_FLAG", "--gpu-memory-utilization=1.5"),
    _flagged("odd-block-size", "BAD_FLAG", "--block-size=7", phase="kv_cache"),
    _flagged("no-sequences", "BAD_FLAG", "--max-num-seqs=0"),
    _flagged("tools-without-parser", "BAD_FLAG", "--enable-auto-tool-choice"),
    _flagged("unknown-reasoning", "BAD_FLAG", "--reasoning-parser=nobody"),
    _flagged("port-out-of-range", "BAD_FLAG", "--port=99999"),
    _flagged("host-not-ours", "BAD_FLAG", "--host=192.0.2.99"),
    _flagged("key-nowhere", "BAD_FLAG", "--ssl-keyfile=/runs/nowhere.pem", "--ssl-certfile=/runs/nowhere.pem",
             phase="serving"),
)  # fmt: skip

MACHINE = (
    Scenario("port-of-root", "process", "PERMISSION", alone("--port=80", wrapper=NO_ROOT),
             note="as every user but root"),
    Scenario("little-address-space", "process", "HOST_MEMORY", alone(wrapper=("prlimit", "--as=3500000000"))),
    Scenario("few-open-files", "rendezvous", "UNKNOWN", alone(wrapper=("prlimit", "--nofile=48"))),
    Scenario("foreign-preload", "serving", None, alone(env={"LD_PRELOAD": "/runs/nowhere.so"}),
             play=playing.serve_and_cut, first=None, note="the loader complains and goes on"),
)  # fmt: skip

ALL: Sequence[Scenario] = (*MODELS, *FLAGS, *MACHINE)
