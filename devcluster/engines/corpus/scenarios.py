"""Every start of the corpus: how it is provoked, and what its logs show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from devcluster.engines.corpus import playing
from devcluster.engines.corpus.playing import Play
from devcluster.engines.corpus.running import Rank

LENGTH = "--max-model-len=512"
DTYPE = "--dtype=float32"
SERVED = "--served-model-name=tiny-chat"
EAGER = "--enforce-eager"
WAIT = "--distributed-timeout-seconds=90"
HTTP = "--port={port}"
_COMMON = (SERVED, EAGER, LENGTH, DTYPE, WAIT)
NO_ROOT = ("bwrap", "--dev-bind", "/", "/", "--cap-drop", "ALL")
"""Without the right to read what its owner may not read, as every user but root."""

READ_ONLY = (
    "bwrap", "--ro-bind", "/", "/", "--dev-bind", "/dev", "/dev", "--tmpfs", "/tmp",
    "--ro-bind", "{models}", "{models}",
)  # fmt: skip


@dataclass(frozen=True)
class Scenario:
    """One start. Phase and class are those of the first cause, or of the leader where nothing failed."""

    name: str
    phase: str
    class_name: str | None
    ranks: tuple[Rank, ...]
    """The leader, and the worker where there is one."""
    play: Play = playing.until_ended
    first: str | None = "leader.log"
    note: str = ""
    names: tuple[str, ...] = ("leader", "worker")
    others: Mapping[str, Any] = field(default_factory=dict)
    """Phase and class of the other log: ``{"worker.log": ["rendezvous", "PEER_LOST"]}``."""


def alone(*arguments: str, model: str = "good", **more: Any) -> tuple[Rank]:
    """A server on one node; later arguments win over the common ones."""
    return (Rank(model, (*_COMMON, HTTP, *arguments), **more),)


def pair(
    leader: Sequence[str] = (), worker: Sequence[str] = (), both: Sequence[str] = (), *,
    models: tuple[str, str] = ("good", "good"), limits: tuple[Mapping[str, Any], Mapping[str, Any]] = ({}, {}),
) -> tuple[Rank, Rank]:  # fmt: skip
    """A group of two nodes with tensor parallelism 2; later arguments win over earlier ones."""
    group = ("--tensor-parallel-size=2", "--nnodes=2", "--master-addr=127.0.0.1", "--master-port={master}")
    shared = (*_COMMON, *group, *both)
    return (
        Rank(models[0], (*shared, "--node-rank=0", HTTP, *leader), **limits[0]),
        Rank(models[1], (*shared, "--node-rank=1", "--headless", *worker), **limits[1]),
    )


def _spoiled(model: str, phase: str, class_name: str, note: str = "") -> Scenario:
    return Scenario(model, phase, class_name, alone(model=model), note=note)


def _flagged(name: str, class_name: str, *arguments: str, **more: Any) -> Scenario:
    return Scenario(name, more.pop("phase", "process"), class_name, alone(*arguments), **more)


HEALTHY = (
    Scenario("healthy-group", "serving", None, pair(), play=playing.serve_and_cut, first=None),
    Scenario("healthy-alone", "serving", None, alone(), play=playing.serve_and_cut, first=None),
    Scenario("healthy-compiled", "serving", None, (Rank("good", (SERVED, LENGTH, DTYPE, HTTP)),),
             play=playing.serve_and_cut, first=None, note="torch.compile, no --enforce-eager"),
    Scenario("healthy-large", "serving", None, pair(models=("large", "large"), both=("--dtype=bfloat16",)),
             play=playing.serve_and_cut, first=None, note="weights take seconds"),
    Scenario("cut-at-process", "process", None, alone(), play=playing.cut_at(r"non-default args"), first=None),
    Scenario("cut-at-rendezvous", "rendezvous", None, alone(), play=playing.cut_at(r"world_size=1 rank=0"), first=None),
    Scenario("cut-at-weights", "weights", None, alone("--dtype=bfloat16", model="large"),
             play=playing.cut_at(r"Completed \| [1-9]\d*/41"), first=None, note="SIGKILL in mid-load: no word of it"),
    Scenario("cut-at-kv-cache", "kv_cache", None, alone(), play=playing.cut_at(r"CPU KV cache size"), first=None),
    Scenario("cut-at-engine-up", "engine_up", None, alone(), play=playing.cut_at(r"init engine \("), first=None),
)  # fmt: skip

MODELS = (
    Scenario("wrong-path", "process", "MODEL_REF", alone(model="nowhere")),
    _spoiled("no-config", "process", "MODEL_REF"),
    _spoiled("broken-config", "process", "CONFIG_BROKEN"),
    _spoiled("unknown-architecture", "process", "MODEL_UNSUPPORTED"),
    _spoiled("unknown-model-type", "process", "MODEL_UNSUPPORTED"),
    _spoiled("custom-code", "process", "MODEL_UNSUPPORTED", "own code without --trust-remote-code"),
    _spoiled("unknown-quantization", "process", "MODEL_UNSUPPORTED"),
    _spoiled("gpu-quantization", "process", "MODEL_UNSUPPORTED"),
    Scenario("head-size", "serving", "MODEL_UNSUPPORTED", alone(model="head-size"), play=playing.until_ended_or_asked,
             note="healthy, then dies at the first request"),
    Scenario("unknown-dtype", "process", "CONFIG_BROKEN", (Rank("unknown-dtype", (SERVED, EAGER, LENGTH, HTTP)),)),
    _spoiled("missing-field", "weights", "WEIGHTS_MISMATCH", "the shape is that of the architecture's defaults"),
    _spoiled("negative-layers", "process", "CONFIG_BROKEN", "num_hidden_layers is a word"),
    _spoiled("missing-shard", "weights", "WEIGHTS_MISSING"),
    _spoiled("no-weights", "weights", "WEIGHTS_MISSING"),
    _spoiled("ghost-shard", "weights", "WEIGHTS_MISSING", "the index names a file that is not there"),
    _spoiled("empty-shard", "weights", "WEIGHTS_CORRUPT"),
    _spoiled("garbage-shard", "weights", "WEIGHTS_CORRUPT"),
    _spoiled("lfs-pointer", "weights", "WEIGHTS_CORRUPT"),
    _spoiled("truncated-shard", "weights", "WEIGHTS_CORRUPT"),
    _spoiled("broken-index", "weights", "WEIGHTS_CORRUPT"),
    _spoiled("unknown-tensor-dtype", "weights", "WEIGHTS_CORRUPT"),
    _spoiled("fewer-tensors", "weights", "WEIGHTS_MISSING"),
    _spoiled("other-names", "weights", "WEIGHTS_MISMATCH"),
    _spoiled("other-shapes", "weights", "WEIGHTS_MISMATCH"),
    _spoiled("fewer-layers", "weights", "WEIGHTS_MISMATCH"),
    _spoiled("more-layers", "weights", "WEIGHTS_MISSING"),
    _spoiled("no-tokenizer", "process", "TOKENIZER"),
    _spoiled("broken-tokenizer", "process", "TOKENIZER"),
    Scenario("other-tokenizer", "serving", None, alone(model="other-tokenizer"), play=playing.serve_and_cut, first=None,
             note="an unknown tokenizer_class is ignored"),
    Scenario("truncated-on-worker", "weights", "WEIGHTS_CORRUPT", pair(models=("good", "truncated-shard")),
             first="worker.log", others={"leader.log": ["weights", "PEER_LOST"]}),
    Scenario("missing-on-worker", "weights", "WEIGHTS_MISSING", pair(models=("good", "missing-shard")),
             first="worker.log", others={"leader.log": ["weights", "PEER_LOST"]}),
)  # fmt: skip

FLAGS = (
    _flagged("unknown-flag", "BAD_FLAG", "--max-model-length=512"),
    _flagged("bad-choice", "BAD_FLAG", "--dtype=float33"),
    _flagged("bad-number", "BAD_FLAG", "--max-num-seqs=many"),
    _flagged("bad-json", "BAD_FLAG", "--compilation-config={{mode: 3"),
    _flagged("bad-load-format", "BAD_FLAG", "--load-format=carrier-pigeon", phase="weights"),
    _flagged("len-too-large", "BAD_MAX_LEN", "--max-model-len=200000"),
    Scenario("kv-too-small", "kv_cache", "KV_TOO_SMALL",
             alone("--max-model-len=100000", "--dtype=bfloat16", model="large"),
             note="160 KiB for each token, and 1 GiB"),
    Scenario("kv-more-than-memory", "kv_cache", "HOST_MEMORY", alone(env={"VLLM_CPU_KVCACHE_SPACE": "400"})),
    _flagged("tp-not-dividing-heads", "PARALLEL_CFG", "--tensor-parallel-size=3"),
    _flagged("nnodes-not-dividing", "PARALLEL_CFG", "--tensor-parallel-size=2", "--nnodes=3", "--node-rank=0",
             "--master-addr=127.0.0.1"),
    _flagged("rank-out-of-range", "PARALLEL_CFG", "--tensor-parallel-size=2", "--nnodes=2", "--node-rank=2",
             "--master-addr=127.0.0.1"),
    _flagged("nnodes-with-ray", "PARALLEL_CFG", "--tensor-parallel-size=2", "--nnodes=2", "--node-rank=0",
             "--distributed-executor-backend=ray"),
    _flagged("ray-absent", "RAY_FAIL", "--distributed-executor-backend=ray", note="ray is not installed"),
    Scenario("port-in-use", "process", "PORT_IN_USE", alone(), play=playing.with_port_taken),
    Scenario("master-port-in-use", "rendezvous", "PORT_IN_USE", pair(), play=playing.with_master_port_taken),
    Scenario("missing-dependency", "process", "MISSING_DEPENDENCY",
             alone(env={"PYTHONPATH": playing.BLOCKED}), note="the import of tokenizers is blocked"),
    Scenario("missing-extra", "weights", "MISSING_DEPENDENCY", alone("--load-format=runai_streamer")),
)  # fmt: skip

DISAGREEING = (
    Scenario("other-dtype", "kv_cache", "FLAGS_DISAGREE", pair(worker=("--dtype=bfloat16",)),
             others={"worker.log": ["kv_cache", None]}, note="the worker says nothing and does not end"),
    Scenario("other-model", "kv_cache", "FLAGS_DISAGREE", pair(models=("good", "large"))),
    Scenario("other-max-len", "serving", None, pair(worker=("--max-model-len=1024",)),
             play=playing.until_ended_or_asked, first=None, note="the leader's length counts"),
    Scenario("other-tensor-parallel", "rendezvous", "FLAGS_DISAGREE", pair(worker=("--tensor-parallel-size=4",)),
             first="worker.log"),
    Scenario("other-nnodes", "rendezvous", "FLAGS_DISAGREE",
             pair(worker=("--nnodes=4", "--tensor-parallel-size=4")), first="worker.log",
             others={"leader.log": ["rendezvous", None]}, note="the leader says nothing and does not end"),
    Scenario("other-max-seqs", "serving", None, pair(worker=("--max-num-seqs=7",)),
             play=playing.until_ended_or_asked, first=None, note="the leader's number counts"),
    Scenario("other-block-size", "kv_cache", "FLAGS_DISAGREE", pair(worker=("--block-size=32",)),
             play=playing.until_ended_or_asked),
    Scenario("other-pipeline", "rendezvous", "FLAGS_DISAGREE",
             pair(worker=("--tensor-parallel-size=1", "--pipeline-parallel-size=2")),
             play=playing.until_ended_or_asked, first="worker.log"),
    Scenario("same-rank-twice", "rendezvous", "RENDEZVOUS", pair(worker=("--node-rank=0",)),
             note="both say --node-rank=0"),
    Scenario("wrong-master-port", "rendezvous", "RENDEZVOUS", pair(worker=("--master-port=29999",)),
             first="worker.log"),
    Scenario("unresolvable-name", "rendezvous", "RENDEZVOUS",
             pair(worker=("--master-addr=tiny-chat-abcdefgh-0.tiny-chat-abcdefgh.default",)),
             first="worker.log"),
    Scenario("worker-never-came", "rendezvous", "RENDEZVOUS", pair()[:1]),
    Scenario("leader-never-came", "rendezvous", "RENDEZVOUS", pair()[1:], names=("worker",), first="worker.log"),
    Scenario("leader-name-unresolvable", "rendezvous", "RENDEZVOUS",
             pair(leader=("--master-addr=tiny-chat-abcdefgh-0.tiny-chat-abcdefgh.default",))[:1]),
)  # fmt: skip

_LARGE: Mapping[str, Any] = {"models": ("large", "large"), "both": ("--dtype=bfloat16",)}
_SHORT_STEPS = {"env": {"VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS": "15"}}

ENDS = (
    Scenario("worker-killed-in-load", "weights", "PEER_LOST", pair(**_LARGE), play=playing.destroy_in_load("worker")),
    Scenario("leader-killed-in-load", "weights", "PEER_LOST", pair(**_LARGE), play=playing.destroy_in_load("leader"),
             first="worker.log", others={"leader.log": ["weights", None]}),
    Scenario("worker-process-killed", "weights", "UNKNOWN", pair(**_LARGE), play=playing.kill_worker_process,
             first="worker.log", others={"leader.log": ["weights", "PEER_LOST"]},
             note="SIGKILL to one process of the worker: its parent does not say why"),
    Scenario("worker-out-of-memory", "weights", "HOST_MEMORY",
             pair(**_LARGE, limits=({}, {"wrapper": ("prlimit", "--data=3000000000")})), first="worker.log"),
    Scenario("out-of-memory", "weights", "HOST_MEMORY",
             alone("--dtype=bfloat16", model="large", wrapper=("prlimit", "--data=3000000000"))),
    Scenario("permission-on-shard", "weights", "WEIGHTS_MISSING", alone(model="good-locked", wrapper=NO_ROOT),
             play=playing.with_locked_shard, note="safetensors says of a file that it may not read that it is absent"),
    Scenario("permission-on-folder", "process", "MODEL_REF", alone(model="good-closed", wrapper=NO_ROOT),
             play=playing.with_closed_folder, note="vLLM takes a folder that it may not enter for one that is absent"),
    Scenario("read-only-home", "serving", None,
             (Rank("good", (SERVED, LENGTH, DTYPE, HTTP), wrapper=READ_ONLY),),
             play=playing.until_ended_or_asked, first=None, note="compiles without a place for its cache"),
    Scenario("shm-full", "process", "HOST_MEMORY",
             alone(wrapper=("bwrap", "--dev-bind", "/", "/", "--size", "65536", "--tmpfs", "/dev/shm"))),
    Scenario("terminated-in-load", "weights", None, alone("--dtype=bfloat16", model="large"),
             play=playing.terminate_in_load, first=None,
             note="30 s after SIGTERM it neither said anything nor had ended"),
    Scenario("terminated-while-serving", "stopped", "TERMINATED", alone(), play=playing.terminate_serving),
    Scenario("terminated-group", "stopped", None, pair(), play=playing.terminate_group, first=None,
             others={"leader.log": ["stopped", "TERMINATED"]}, note="that a group was asked to stop is no cause"),
    Scenario("pipeline-on-cpu", "kv_cache", "ENGINE_BUG",
             pair(both=("--tensor-parallel-size=1", "--pipeline-parallel-size=2")), play=playing.until_ended_or_asked,
             first="worker.log", others={"leader.log": ["serving", "ENGINE_BUG"]},
             note="healthy, then dies at the first request: the worker of the second stage"),
    Scenario("engine-not-ready", "weights", "TIMEOUT",
             alone("--dtype=bfloat16", "--data-parallel-size=1", "--api-server-count=2", model="large",
                   env={"VLLM_ENGINE_READY_TIMEOUT_S": "8"})),
    Scenario("slow-worker", "rendezvous", "RENDEZVOUS", pair(both=("--distributed-timeout-seconds=5",)),
             play=playing.worker_late),
    Scenario("worker-frozen-serving", "serving", "PEER_LOST",
             pair(limits=(_SHORT_STEPS, _SHORT_STEPS)), play=playing.freeze_serving,
             note="the worker's node hangs: the next step never comes back"),
    Scenario("worker-killed-serving", "serving", "PEER_LOST", pair(), play=playing.destroy_serving),
    Scenario("worker-frozen-in-load", "weights", None, pair(**_LARGE), play=playing.freeze_in_load, first=None,
             note="no error at all: only waiting"),
)  # fmt: skip

ALL: Sequence[Scenario] = (*HEALTHY, *MODELS, *FLAGS, *DISAGREEING, *ENDS)
