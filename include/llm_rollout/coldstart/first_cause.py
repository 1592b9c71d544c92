"""Which cause came first, over the ranks of a group: their logs all end in errors when one of them fails."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from llm_rollout.coldstart import lines
from llm_rollout.coldstart.remedies import remedy
from llm_rollout.coldstart.words import CONSEQUENCES, Cause, Reading

_BREAKING: Final = (
    "model", "dtype", "quantization", "kv_cache_dtype", "tensor_parallel_size", "pipeline_parallel_size",
    "data_parallel_size", "nnodes", "distributed_executor_backend", "block_size", "architecture",
    "world_size", "store_group",
)  # fmt: skip
"""Flags with which a group cannot come up when they differ. A wrong --master-port is a RENDEZVOUS that failed."""
_MAY_BREAK: Final = (
    "revision", "tokenizer", "max_model_len", "max_num_seqs", "max_num_batched_tokens", "enforce_eager", "load_format",
    "gpu_memory_utilization", "kv_cache_memory_bytes", "trust_remote_code", "hf_overrides", "enable_expert_parallel",
    "enable_chunked_prefill", "enable_prefix_caching", "speculative_config", "compilation_config",
)  # fmt: skip
_DEFAULTS: Final = {
    "dtype": "auto", "kv_cache_dtype": "auto", "load_format": "auto", "tensor_parallel_size": 1,
    "pipeline_parallel_size": 1, "data_parallel_size": 1, "nnodes": 1,
    "gpu_memory_utilization": 0.92, "enforce_eager": False, "trust_remote_code": False, "enable_expert_parallel": False,
}  # fmt: skip
"""Of vLLM 0.33, which logs only what differs from them."""
_SHORT: Final = {
    "tp": "tensor_parallel_size", "pp": "pipeline_parallel_size", "dp": "data_parallel_size", "n": "nnodes",
    "q": "quantization",
}  # fmt: skip
_BELIEVABLE: Final = CONSEQUENCES | {"ENGINE_BUG", "NCCL", "WEIGHTS_MISMATCH", "CONFIG_BROKEN"}
"""What ranks with different flags end in; other classes explain themselves."""
_TOLD = "non-default args:"
_SIGNS: Final = (
    ("model", re.compile(r"Starting to load model (\S{1,500}?)\.\.\.\s")),
    ("architecture", re.compile(r"Resolved architecture: (\w+)")),
    ("max_model_len", re.compile(r"Using max model len (\d+)")),
    ("world_size", re.compile(r"\bworld_size=(\d+) rank=")),
    ("store_group", re.compile(r"wait timeout after \d+ ?ms, keys: (\S{1,200})/\d+\b")),
)
"""What both sides say of their flags: headless workers of vLLM 0.32 and 0.33 do not log the flags themselves."""
_WORDS: Final = {
    "architecture": "the model's architecture", "world_size": "the world size (tensor times pipeline parallel)",
    "store_group": "the process group that is waited for, and so the parallel flags,",
}  # fmt: skip
_PAIR = re.compile(r"'(\w+)': ('[^']*'|-?[\d.]+|True|False|None)")


def first(causes: Iterable[Cause]) -> Cause | None:
    """The cause that came first, over all ranks.

    What ranks say when another one failed (``CONSEQUENCES``) never wins where anything else is known. Without times the
    order given decides. That a rank was asked to stop is no cause.
    """
    failures = [cause for cause in causes if cause.class_name != "TERMINATED"]
    yearless = any(cause.at is not None and _is_yearless(cause.at) for cause in failures)
    return min(failures, key=lambda cause: _place(cause, yearless=yearless), default=None)


def first_of_group(readings: Mapping[str, Reading], texts: Mapping[str, str]) -> Cause | None:
    """The first cause of a group, of which ``readings`` and ``texts`` hold the logs by name, the leader's first.

    Flags that differ between leader and workers are it where no rank serves and no rank says anything that explains
    itself.
    """
    causes = [replace(each.cause, source=name) for name, each in readings.items() if each.cause is not None]
    found = first(causes)
    if any(each.phase in {"serving", "stopped"} for each in readings.values()):
        return found
    if found is None:
        return disagreeing(texts, breaking_only=True)
    return (disagreeing(texts) or found) if found.class_name in _BELIEVABLE else found


def disagreeing(texts: Mapping[str, str], *, breaking_only: bool = False) -> Cause | None:
    """FLAGS_DISAGREE, if the logs of one group, by name and the leader's first, tell of flags that do not agree.

    ``breaking_only`` looks only at flags with which no group comes up when they differ.
    """
    told = [_flags(name, text) for name, text in texts.items()]
    names = _BREAKING if breaking_only else (*_BREAKING, *_MAY_BREAK)
    for flag in names:
        for other in told[1:]:
            if _differ(told[0], other, flag):
                return _disagreement(told[0], other, flag)
    return None


@dataclass(frozen=True)
class _Said:
    value: Any
    line: int
    stamp: str


@dataclass(frozen=True)
class _Flags:
    name: str
    said: Mapping[str, _Said]
    whole: bool
    """Whether what is not told has its default: workers tell nothing of their flags, and a line may be cut."""

    def of(self, flag: str) -> Any:
        return self.said[flag].value if flag in self.said else _DEFAULTS.get(flag)


def _differ(one: _Flags, other: _Flags, flag: str) -> bool:
    told = [flag in each.said for each in (one, other)]
    known = all(told) or (any(told) and one.whole and other.whole and flag not in _WORDS)
    return known and _plain(one.of(flag)) != _plain(other.of(flag))


def _disagreement(one: _Flags, other: _Flags, flag: str) -> Cause:
    shown = [
        f"{each.name} has {each.of(flag) if each.of(flag) is not None else 'the default'}" for each in (one, other)
    ]
    message = f"{_WORDS.get(flag) or '--' + flag.replace('_', '-')} differs: {', '.join(shown)}"
    said = other.said.get(flag) or next(iter(other.said.values()))
    at = lines.seconds(said.stamp, None) if said.stamp else None
    return Cause("FLAGS_DISAGREE", message, remedy("FLAGS_DISAGREE"), said.line, at, other.name)


def _plain(value: Any) -> Any:
    """``value`` such that 512 and "512" are the same."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return str(value)


def _flags(name: str, text: str) -> _Flags:
    """What a log tells of the flags of the engine's last start, and of what followed from them."""
    said, whole = _typed(text)
    for flag, pattern in _SIGNS:
        for match in pattern.finditer(text):
            said[flag] = _Said(match[1], *_position(text, match.start()))
    return _Flags(name, said, whole)


def _typed(text: str) -> tuple[dict[str, _Said], bool]:
    """The flags as the log tells them, and whether it tells all."""
    at = text.rfind(_TOLD)
    if at < 0:
        return {}, False
    ends = text.find("\n", at)
    line = next(iter(lines.lines(text[text.rfind("\n", 0, at) + 1 : ends if ends >= 0 else len(text)])), None)
    if line is None or _TOLD not in line.text:
        return {}, False
    words = line.text.split(_TOLD, 1)[1].strip()
    values, whole = _from_dict(words) if words.startswith("{") else _from_command(words)
    if "model" not in values and "model_tag" in values:
        values["model"] = values["model_tag"]
    number, _ = _position(text, at)
    return {flag: _Said(value, number, line.stamp) for flag, value in values.items()}, whole


def _position(text: str, at: int) -> tuple[int, str]:
    """The number and the stamp of the line at a place in the text."""
    ends = text.find("\n", at)
    line = next(lines.lines(text[text.rfind("\n", 0, at) + 1 : ends if ends >= 0 else len(text)]), None)
    return text.count("\n", 0, at) + 1, line.stamp if line is not None else ""


def _from_dict(words: str) -> tuple[dict[str, Any], bool]:
    """The flags in the form that vLLM logs them in."""
    try:
        return dict(ast.literal_eval(words)), True
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        values = {key: ast.literal_eval(_number(value)) for key, value in _PAIR.findall(words)}
        return values, False


def _number(text: str) -> str:
    return text if text[:1] in "'TFN" or re.fullmatch(r"-?\d+(?:\.\d+)?", text) else repr(text)


def _from_command(words: str) -> tuple[dict[str, Any], bool]:
    """A command line as it was typed."""
    try:
        parts = shlex.split(words)
    except ValueError:
        parts = words.split()
    values: dict[str, Any] = {}
    plain = [part for part in parts[:2] if not part.startswith("-") and part != "serve"]
    for part, following in zip(parts, [*parts[1:], "--"], strict=True):
        if part.startswith("-") and len(part) > 1 and not part[1].isdigit():
            key, equals, value = part.lstrip("-").partition("=")
            key = key.replace("-", "_")
            told = value if equals else True if following.startswith("--") else following
            values[_SHORT.get(key, key)] = told
    if plain:
        values.setdefault("model", plain[0])
    return values, True


def _place(cause: Cause, *, yearless: bool) -> tuple[bool, bool, float, bool, bool]:
    at = cause.at
    if at is not None and yearless and not _is_yearless(at):
        at = datetime.fromtimestamp(at, UTC).replace(year=lines.YEARLESS).timestamp()
    follows = cause.class_name in CONSEQUENCES
    return follows, at is None, at or 0.0, cause.class_name == "PEER_LOST", not cause.in_worker


def _is_yearless(at: float) -> bool:
    return datetime.fromtimestamp(at, UTC).year <= lines.YEARLESS
