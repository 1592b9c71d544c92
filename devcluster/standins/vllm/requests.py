"""Reads the JSON of generation requests; what is wrong or not supported becomes the error vLLM answers with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from devcluster.standins.vllm.sampling import Sampling

_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "n": (1,), "best_of": (1,), "presence_penalty": (0,), "frequency_penalty": (0,), "repetition_penalty": (1,),
    "length_penalty": (1,), "use_beam_search": (False,), "suffix": ("",), "logit_bias": ({},), "tools": ([],),
    "response_format": ({"type": "text"},), "prompt_embeds": (), "guided_json": (), "structured_outputs": (),
}  # fmt: skip
"""Fields that change answers in ways that the stand-in does not compute, with the values that change nothing."""


class ApiError(Exception):
    """An error answer: HTTP code, type and message as vLLM words them."""

    def __init__(self, code: int, kind: str, message: str, param: str | None = None) -> None:
        """Keep the answer's parts; ``param`` is the field that is wrong."""
        super().__init__(message)
        self.code = code
        self.kind = kind
        self.param = param

    def body(self) -> dict[str, Any]:
        """Return the JSON of the answer."""
        return {"error": {"message": str(self), "type": self.kind, "param": self.param, "code": self.code}}


def bad_request(message: str, param: str | None = None) -> ApiError:
    """Return a 400."""
    return ApiError(400, "BadRequestError", message, param)


@dataclass(frozen=True)
class Common:
    """What completions and chats share."""

    stream: bool
    include_usage: bool
    continuous_usage: bool


def check_neutral(body: dict[str, Any]) -> None:
    """Refuse fields that would need what the stand-in lacks.

    Raises:
        ApiError: 400, naming field and remedy.
    """
    for name, neutral in _NEUTRAL.items():
        value = body.get(name)
        if value is not None and value not in neutral:
            raise bad_request(f"the stand-in does not implement {name}={value!r}; leave it out", name)


def common(body: dict[str, Any]) -> Common:
    """Read how the answer shall come."""
    stream_options = body.get("stream_options") or {}
    stream = bool(body.get("stream"))
    if stream_options and not stream:
        raise bad_request("Stream options can only be defined when `stream=True`.", "stream_options")
    return Common(stream, bool(stream_options.get("include_usage")), bool(stream_options.get("continuous_usage_stats")))


def sampling(body: dict[str, Any], *, max_tokens: int, logprobs: int | None) -> Sampling:
    """Read how tokens are chosen.

    Raises:
        ApiError: 400 for values out of range.
    """
    stop = body.get("stop") or []
    return Sampling(
        max_tokens=max_tokens,
        temperature=_number(body, "temperature", 1.0, 0.0, 100.0),
        top_p=_number(body, "top_p", 1.0, 1e-9, 1.0),
        top_k=int(_number(body, "top_k", 0, -1, 1 << 30)),
        min_p=_number(body, "min_p", 0.0, 0.0, 1.0),
        min_tokens=int(_number(body, "min_tokens", 0, 0, max_tokens)),
        ignore_eos=bool(body.get("ignore_eos")),
        stop=(stop,) if isinstance(stop, str) else tuple(map(str, stop)),
        stop_ids=frozenset(map(int, body.get("stop_token_ids") or [])),
        include_stop=bool(body.get("include_stop_str_in_output")),
        skip_special=body.get("skip_special_tokens", True) is not False,
        logprobs=logprobs,
        prompt_logprobs=_optional_count(body, "prompt_logprobs"),
        seed=None if body.get("seed") is None else int(body["seed"]),
    )


def token_limit(body: dict[str, Any], default: int | None, prompt_tokens: int, max_model_len: int) -> int:
    """Return how many tokens the answer may have.

    Raises:
        ApiError: 400 if prompt and answer do not fit the model.
    """
    if prompt_tokens > max_model_len - (0 if body.get("max_tokens") == 0 else 1):
        raise bad_request(
            f"This model's maximum context length is {max_model_len} tokens. However, your request has "
            f"{prompt_tokens} input tokens. Please reduce the length of the input messages.",
            "input_tokens",
        )
    name = "max_completion_tokens" if body.get("max_completion_tokens") is not None else "max_tokens"
    asked = body.get(name)
    if asked is None:
        return min(default or max_model_len, max_model_len - prompt_tokens)
    if not isinstance(asked, int) or asked < 0:
        raise bad_request(f"{name} must be at least 0, got {asked}.", name)
    if prompt_tokens + asked > max_model_len:
        raise bad_request(
            f"'{name}' is too large: {asked}. This model's maximum context length is {max_model_len} tokens and your "
            f"request has {prompt_tokens} input tokens ({asked} > {max_model_len} - {prompt_tokens}).",
            name,
        )
    return asked


def _number(body: dict[str, Any], name: str, default: float, least: float, most: float) -> float:
    value = body.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise bad_request(f"{name} must be in [{least}, {most}], got {value}.", name)
    return value


def _optional_count(body: dict[str, Any], name: str) -> int | None:
    return None if body.get(name) is None else int(_number(body, name, 0, 0, 100))
