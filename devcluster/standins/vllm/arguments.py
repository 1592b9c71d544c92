"""The command line of ``vllm serve``: what it accepts, and the part of it that means something here."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from devcluster.standins.vllm import VERSION, flags

_LEN = re.compile(r"^(\d+(?:\.\d+)?)([kKmM]?)$")
_UNITS = {"": 1, "k": 1_000, "K": 1_024, "m": 1_000_000, "M": 1_048_576}
_LOAD_FORMATS = (
    "auto", "safetensors", "fastsafetensors", "instanttensor", "runai_streamer",
    "bitsandbytes", "dummy", "gguf", "ipc_cache", "mistral", "modelexpress", "npcache", "pt",
    "runai_streamer_sharded", "sharded_state", "tensorizer",
)  # fmt: skip
_DTYPES = {"half": "float16", "float": "float32"}
WHOLE_FILE_FORMATS = _LOAD_FORMATS[:5]
"""Load formats that read the usual shards: here all the same reader."""


@dataclass(frozen=True)
class ServeOptions:
    """What was asked for. Times in seconds."""

    model: Path
    served_names: tuple[str, ...]
    host: str
    port: int
    api_keys: tuple[str, ...]
    tensor_parallel: int
    pipeline_parallel: int
    nnodes: int
    node_rank: int
    master_addr: str
    master_port: int
    headless: bool
    executor: str | None
    max_model_len: int | None
    max_num_seqs: int
    gpu_memory_utilization: float
    enforce_eager: bool
    load_format: str
    chat_template: str | None
    seed: int
    distributed_timeout_seconds: float
    shutdown_timeout_seconds: float
    access_log: bool
    dtype: str
    trust_remote_code: bool
    prefetch: bool
    """Whether shards are read into the page cache before they are loaded."""
    given: Mapping[str, Any]
    """What was not left to its default, for the first log lines."""

    @property
    def world_size(self) -> int:
        """GPUs of the whole group."""
        return self.tensor_parallel * self.pipeline_parallel


class _Parser(argparse.ArgumentParser):
    """Takes underscores for dashes in the names of flags, as vLLM does."""

    def parse_known_args(  # type: ignore[override]
        self, args: list[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        return super().parse_known_args([_dashed(argument) for argument in args or []], namespace)

    def error(self, message: str) -> NoReturn:
        self.print_usage()
        self.exit(2, f"vllm: error: {message}\n")


def parse(arguments: list[str]) -> ServeOptions:
    """Return the options; leaves the process as vLLM does on ``--help``, ``--version`` and wrong flags (exit 2)."""
    parser = _Parser(prog="vllm", allow_abbrev=False)
    parser.add_argument("-v", "--version", action="version", version=VERSION)
    commands = parser.add_subparsers(dest="command", required=True, metavar="{serve}", parser_class=_Parser)
    serve = commands.add_parser("serve", allow_abbrev=False, help="Launch a local OpenAI-compatible API server.")
    _add_server(serve)
    _add_engine(serve)
    _add_parallel(serve)
    _add_inert(serve)
    found = parser.parse_args(arguments)
    model = found.model or found.model_tag
    if model is None:
        parser.error("the following arguments are required: model_tag")
    given = {name: value for name, value in vars(found).items() if value != serve.get_default(name)}
    return _options(found, model, {name: value for name, value in given.items() if name != "command"})


def _options(found: argparse.Namespace, model: str, given: Mapping[str, Any]) -> ServeOptions:
    keys = found.api_key or ([os.environ["VLLM_API_KEY"]] if os.environ.get("VLLM_API_KEY") else [])
    return ServeOptions(
        model=Path(model),
        served_names=tuple(found.served_model_name or [model]),
        host=found.host or "0.0.0.0",
        port=found.port,
        api_keys=tuple(keys),
        tensor_parallel=found.tensor_parallel_size,
        pipeline_parallel=found.pipeline_parallel_size,
        nnodes=found.nnodes,
        node_rank=found.node_rank,
        master_addr=found.master_addr,
        master_port=found.master_port,
        headless=found.headless,
        executor=found.distributed_executor_backend,
        max_model_len=found.max_model_len,
        max_num_seqs=found.max_num_seqs,
        gpu_memory_utilization=found.gpu_memory_utilization,
        enforce_eager=found.enforce_eager,
        load_format=found.load_format,
        chat_template=found.chat_template,
        seed=found.seed,
        distributed_timeout_seconds=found.distributed_timeout_seconds,
        shutdown_timeout_seconds=found.shutdown_timeout,
        access_log=not found.disable_uvicorn_access_log,
        dtype=_DTYPES.get(found.dtype, found.dtype),
        trust_remote_code=found.trust_remote_code,
        prefetch=found.safetensors_load_strategy == "prefetch",
        given=given,
    )


def _add_server(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model_tag", nargs="?")
    parser.add_argument("--model")
    parser.add_argument("--host")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--api-key", nargs="+")
    parser.add_argument("--served-model-name", nargs="+")
    parser.add_argument("--chat-template")
    parser.add_argument("--headless", action="store_true")
    parser.add_argument("--shutdown-timeout", type=float, default=0.0)
    parser.add_argument("--disable-uvicorn-access-log", action="store_true")


def _add_engine(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--max-model-len", type=_length)
    parser.add_argument("--max-num-seqs", type=int, default=256)
    parser.add_argument("--gpu-memory-utilization", type=float, default=0.92)
    parser.add_argument("--enforce-eager", action=argparse.BooleanOptionalAction, default=False)
    parser.add_argument("--load-format", choices=_LOAD_FORMATS, default="auto")
    parser.add_argument("--safetensors-load-strategy", choices=("lazy", "eager", "prefetch", "torchao"))
    parser.add_argument("--dtype", choices=("auto", "half", "float16", "bfloat16", "float", "float32"), default="auto")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--trust-remote-code", action="store_true")


def _add_parallel(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tensor-parallel-size", "-tp", type=int, default=1)
    parser.add_argument("--pipeline-parallel-size", "-pp", type=int, default=1)
    parser.add_argument("--data-parallel-size", "-dp", type=int, default=1, choices=(1,))
    parser.add_argument("--nnodes", "-n", type=int, default=1)
    parser.add_argument("--node-rank", "-r", type=int, default=0)
    parser.add_argument("--master-addr", default="127.0.0.1")
    parser.add_argument("--master-port", type=int, default=29501)
    parser.add_argument("--distributed-timeout-seconds", type=float, default=600.0)
    parser.add_argument("--distributed-executor-backend", choices=("external_launcher", "mp", "ray", "uni"))


def _add_inert(parser: argparse.ArgumentParser) -> None:
    for name in flags.VALUED:
        parser.add_argument(f"--{name}", help=argparse.SUPPRESS)
    for name in flags.SWITCHES:
        parser.add_argument(f"--{name}", action=argparse.BooleanOptionalAction, help=argparse.SUPPRESS)


def _dashed(argument: str) -> str:
    if not argument.startswith("--"):
        return argument
    name, equals, value = argument.partition("=")
    return name.replace("_", "-") + equals + value


def _length(text: str) -> int | None:
    """Read a number of tokens: 4096, 8k (thousands), 8K (1024s); -1 and ``auto`` leave it to the model."""
    if text in ("-1", "auto"):
        return None
    match = _LEN.match(text)
    if match is None:
        raise argparse.ArgumentTypeError(f"Invalid integer value: {text}")
    return int(float(match[1]) * _UNITS[match[2]])
