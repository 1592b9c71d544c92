"""What a model asks of the fabric between its pipeline stages, and what slower ports cost it. Pure.

At a stage boundary vLLM sends two tensors of one row a token, hidden_states and residual. Each tensor-parallel rank
sends its own slice over its own rail, so the slowest rail decides. It is reported beside the verdict, and decides only
whether DEGRADED may go on: a healthy port is asked for more than most models need.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

DECODE_SEQUENCES, PREFILL_TOKENS = 256, 2048
"""The engine's usual largest batch and prefill chunk."""
_TENSORS = 2
_ELEMENT_BYTES = {"float32": 4, "float": 4, "float16": 2, "half": 2, "bfloat16": 2}
"""Of activations: quantized weights do not make them smaller on the wire."""


@dataclass(frozen=True)
class Need:
    """``bytes_per_token`` cross each of ``boundaries``, spread over ``rails``."""

    bytes_per_token: int
    boundaries: int
    rails: int

    def milliseconds(self, tokens: int, gbps: float) -> float:
        """For one step of ``tokens`` through all boundaries, each rail giving ``gbps`` (10^9 bits a second)."""
        bits = self.bytes_per_token * tokens * 8 / self.rails
        return self.boundaries * bits / (gbps * 1e9) * 1e3


@dataclass(frozen=True)
class Cost:
    """Milliseconds on the wire for one step, as measured and at the port rate. A step gives each sequence a token."""

    tokens: int
    measured_ms: float
    rated_ms: float

    @property
    def extra_ms(self) -> float:
        """What is lost a step."""
        return self.measured_ms - self.rated_ms


def need(config: Mapping[str, Any], pipeline_parallel: int, rails: int) -> Need | None:
    """From a model's config.json. None without a boundary between stages, or where the config has no hidden size."""
    text = config.get("text_config", config)
    hidden = text.get("hidden_size")
    if pipeline_parallel < 2 or rails < 1 or not isinstance(hidden, int) or hidden < 1:  # noqa: PLR2004 - a boundary
        return None
    dtype = str(text.get("torch_dtype") or text.get("dtype") or config.get("torch_dtype") or config.get("dtype"))
    element_bytes = _ELEMENT_BYTES.get(dtype.removeprefix("torch."), 2)
    return Need(_TENSORS * hidden * element_bytes, pipeline_parallel - 1, rails)


def cost(wanted: Need, tokens: int, slowest_gbps: float, rate_gbps: float) -> Cost | None:
    """Of one step over the slowest way that was measured. None when nothing came through: no time is long enough."""
    if slowest_gbps <= 0:
        return None
    return Cost(tokens, wanted.milliseconds(tokens, slowest_gbps), wanted.milliseconds(tokens, rate_gbps))


def sentence(
    wanted: Need | None,
    slowest_gbps: float,
    rate_gbps: float,
    *,
    decode_tokens: int = DECODE_SEQUENCES,
    prefill_tokens: int = PREFILL_TOKENS,
) -> str:
    """What the slowest way costs this model, for a person who has to decide whether DEGRADED may go on."""
    if wanted is None:
        return "what it costs the model is not known: no hidden_size in its config.json, or no pipeline between nodes"
    decode = cost(wanted, decode_tokens, slowest_gbps, rate_gbps)
    prefill = cost(wanted, prefill_tokens, slowest_gbps, rate_gbps)
    if decode is None or prefill is None:
        return "the model cannot run: its stages exchange activations on a way that carries nothing"
    return (
        f"at {slowest_gbps:.4g} of {rate_gbps:.4g} Gb/s a token costs {decode.extra_ms:.2g} ms more when "
        f"{decode_tokens} sequences decode ({decode.measured_ms:.2g} instead of {decode.rated_ms:.2g} ms between stages"
        f" a step), and a prefill chunk of {prefill_tokens} tokens {prefill.extra_ms:.2g} ms more"
    )
