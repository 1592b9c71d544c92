"""The class of an exception that no signature knows, by the place where it was raised: a file and function of vLLM."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

_WEIGHTS = re.compile(
    r"weight_loader|load_weights|_load_module|load_(?:column|row|qkv|merged|sharded)\w*|default_weight_loader"
    r"|_iterator$"
    r"|_prepare_weights|filter_\w*safetensors\w*"
)
_TOKENIZER_FILES = re.compile(r"/tokenizers/|tokenization_|/tokenizer\w*\.py|/mistral_common/tokens/")
_CONFIG_FILES = re.compile(
    r"transformers_utils/(?:config|model_arch|configs/)|configuration_\w+\.py|hub/dataclasses\.py$"
)
_FLAGS_FILES = re.compile(r"/uvicorn/config\.py$|/vllm/utils/argparse_utils\.py$")
_REFUSED_SETTING = re.compile(r"(?:\w+\.)*(?:ValidationError: .* for (?P<of>\w*)Config\b|VLLMValidationError\b)")
_REFUSING: Final = (
    ("PARALLEL_CFG", re.compile(r"/vllm/config/parallel\.py")),
    (
        "BAD_FLAG",
        re.compile(r"/vllm/(?:config(?:\.py|/)|engine/arg_utils\.py|entrypoints/cli/)"),
    ),
    ("MODEL_UNSUPPORTED", re.compile(r"/vllm/model_executor/layers/quantization/(?!utils/)")),
)
"""Files whose own errors are refusals: only the innermost frame counts."""
_REFUSAL = re.compile(r"(?:\w+\.)*(?:ValueError|AssertionError|NotImplementedError|RuntimeError|VLLMValidationError)\b")
_FAULT = re.compile(r"(?:RuntimeError|ValueError)\b")
_RUNNING = re.compile(
    r"execute_model|\w*dummy_\w*run|profile_run|profile_cudagraph_memory|determine_(?:available_memory"
    r"|num_available_\w+)"
    r"|compile_or_warm_up_model|capture_model|sample_tokens|forward\w*|_call_impl|run_busy_loop|initialize_from_config"
    r"|process_weights_after_loading"
)
"""The engine runs its model: what fails here and is not known is its own fault."""
_ENGINES = re.compile(r"/(?:vllm\w*|torch\w*|transformers|triton|flashinfer|xformers|aiter|deep_gemm|neuronx\w*|ray)/")
_ASSERTED = re.compile(r"(?:AssertionError|NotImplementedError|UnboundLocalError)\b")
_BUGS = re.compile(r"(?:TypeError|AttributeError|IndexError|KeyError|NameError|ZeroDivisionError|RecursionError)\b")
"""Faults of the engine where they come from its own packages; others' code is nobody's that we know."""
_BROKEN_JSON = re.compile(r"(?:\w+\.)*JSONDecodeError\b|UnicodeDecodeError\b")
_SYSTEM = re.compile(r"(?:\w+\.)*(?:OSError|IOError|TimeoutError|ConnectionError|\w*HTTPError|\w*Connect\w*)\b")


def class_of_place(text: str, frames: Sequence[tuple[str, str]]) -> str | None:
    """The class of the exception ``text``, whose frames are given as file and function, the innermost last.

    None where the place says nothing.
    """
    if refused := _REFUSED_SETTING.match(text):
        return "PARALLEL_CFG" if refused["of"] == "Parallel" else "BAD_FLAG"
    if _SYSTEM.match(text):
        return None
    told = next((found for frame in reversed(frames) if (found := _told_by(text, *frame)) is not None), None)
    if told is not None:
        return told
    if frames and _REFUSAL.match(text):
        by_file = next((name for name, file in _REFUSING if file.search(frames[-1][0])), None)
        if by_file is not None:
            return by_file
    running = _FAULT.match(text) and any("vllm" in file and _RUNNING.fullmatch(name) for file, name in frames)
    own = _BUGS.match(text) and (not frames or _ENGINES.search(frames[-1][0]))
    return "ENGINE_BUG" if running or own or _ASSERTED.match(text) else None


def sharpened(class_name: str, frames: Sequence[tuple[str, str]]) -> str:
    """The class that words name, seen from where they were said.

    Whoever gets to the tokenizer has found the model: what leads nowhere then is the tokenizer's own path.
    """
    at_tokenizer = any(_TOKENIZER_FILES.search(file) or "tokenizer" in function for file, function in frames)
    return "TOKENIZER" if class_name == "MODEL_REF" and at_tokenizer else class_name


def _told_by(text: str, file: str, function: str) -> str | None:
    if _WEIGHTS.search(function) and "model_executor" in file:
        return "WEIGHTS_CORRUPT" if _BROKEN_JSON.match(text) else "WEIGHTS_MISMATCH"
    if _TOKENIZER_FILES.search(file) or "tokenizer" in function:
        return "TOKENIZER"
    if _CONFIG_FILES.search(file):
        return "CONFIG_BROKEN"
    return "BAD_FLAG" if _FLAGS_FILES.search(file) else None
