"""What vLLM refuses before it touches a GPU: wrong models, wrong lengths, groups that do not fit their nodes."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from devcluster.models.architecture import Architecture
from devcluster.standins.vllm import failures
from devcluster.standins.vllm.arguments import WHOLE_FILE_FORMATS, ServeOptions
from devcluster.standins.vllm.failures import PROCESS, StartupError

_DEFAULT_GPUS = 8


@dataclass(frozen=True)
class ModelConfig:
    """What the model directory says."""

    architecture: Architecture
    name: str
    eos_ids: frozenset[int]
    max_model_len: int
    dtype: str
    """Of the checkpoint."""


def check_parallel(options: ServeOptions, environment: Mapping[str, str]) -> None:
    """Refuse groups that cannot exist.

    Raises:
        StartupError: In vLLM's words.
    """
    if options.nnodes > 1 and options.executor == "ray":
        _refuse("nnodes > 1 can only be set when distributed executor backend is mp, uni or external_launcher.")
    if options.executor == "ray":
        raise StartupError(failures.FAILURES["RAY_FAIL"].text, PROCESS)
    if options.world_size % options.nnodes:
        raise StartupError(failures.NODES.format(nnodes=options.nnodes, world=options.world_size), PROCESS)
    if not 0 <= options.node_rank < options.nnodes:
        raise StartupError(failures.NODE_RANK.format(last=options.nnodes - 1, rank=options.node_rank), PROCESS)
    if options.headless != (options.node_rank > 0):
        _refuse(f"node_rank {options.node_rank} needs {'no ' if options.headless else ''}--headless.")
    gpus = visible_gpus(environment)
    if options.world_size // options.nnodes > gpus:
        raise StartupError(failures.WORLD_SIZE.format(world=options.world_size, gpus=gpus), PROCESS)
    port = environment.get("VLLM_PORT", "")
    if "://" in port:
        raise StartupError(
            f"ValueError: VLLM_PORT '{port}' appears to be a URI. This may be caused by a Kubernetes service "
            "discovery issue, check the warning in: https://docs.vllm.ai/en/stable/serving/env_vars.html",
            PROCESS,
        )


def visible_gpus(environment: Mapping[str, str]) -> int:
    """Return how many GPUs this node shows."""
    if environment.get("STANDIN_GPUS"):
        return int(environment["STANDIN_GPUS"])
    visible = environment.get("CUDA_VISIBLE_DEVICES") or environment.get("NVIDIA_VISIBLE_DEVICES", "all")
    if visible in ("void", "none"):
        return 0
    return _DEFAULT_GPUS if visible == "all" else len(visible.split(","))


def check_model(options: ServeOptions) -> ModelConfig:
    """Read the model's configuration and refuse what does not fit it.

    Raises:
        StartupError: In vLLM's words.
    """
    try:
        config = json.loads((options.model / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StartupError(failures.MODEL_REF.format(model=options.model), PROCESS) from None
    except ValueError as error:
        text = failures.CONFIG_BROKEN.format(model=options.model)
        raise StartupError(text, PROCESS, "transformers/configuration_utils.py") from error
    _check_kind(options, config)
    names = config.get("architectures") or [None]
    if options.load_format not in WHOLE_FILE_FORMATS:
        raise StartupError(f"NotImplementedError: the stand-in has no --load-format {options.load_format}", PROCESS)
    arch = Architecture.from_config(config)
    _check_heads(options, arch)
    eos = config.get("eos_token_id")
    eos_ids = frozenset(eos if isinstance(eos, list) else [] if eos is None else [eos])
    return ModelConfig(
        arch, names[0], eos_ids, _max_model_len(options, arch), str(config.get("torch_dtype") or config.get("dtype"))
    )


def _check_kind(options: ServeOptions, config: Mapping[str, Any]) -> None:
    """Refuse what is no plain Llama, in the order of vLLM: the stand-in computes nothing else."""
    if "auto_map" in config and not options.trust_remote_code:
        raise StartupError(failures.CUSTOM_CODE.format(model=options.model), PROCESS)
    if (kind := config.get("model_type", "llama")) != "llama":
        raise StartupError(failures.MODEL_TYPE.format(kind=kind), PROCESS)
    if (names := config.get("architectures") or [None]) != ["LlamaForCausalLM"]:
        raise StartupError(failures.MODEL_UNSUPPORTED.format(names=names), PROCESS)
    if quantized := config.get("quantization_config"):
        raise StartupError(failures.QUANTIZATION.format(method=quantized.get("quant_method")), PROCESS)


def _check_heads(options: ServeOptions, arch: Architecture) -> None:
    if arch.num_attention_heads % options.tensor_parallel:
        _refuse(
            f"Total number of attention heads ({arch.num_attention_heads}) must be divisible by tensor parallel size "
            f"({options.tensor_parallel})."
        )


def _max_model_len(options: ServeOptions, arch: Architecture) -> int:
    derived = arch.max_position_embeddings
    asked = options.max_model_len
    if asked is not None and asked > derived and os.environ.get("VLLM_ALLOW_LONG_MAX_MODEL_LEN") != "1":
        raise StartupError(failures.BAD_MAX_LEN.format(asked=asked, derived=float(derived)), PROCESS)
    return asked or derived


def _refuse(reason: str) -> None:
    text = "pydantic_core._pydantic_core.ValidationError: 1 validation error for VllmConfig\n  Value error, "
    raise StartupError(text + reason, PROCESS)
