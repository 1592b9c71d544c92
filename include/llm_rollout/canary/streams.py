"""Reads a stream of completion events as a server sends it, and says whether it came to its end."""

from __future__ import annotations

import json
from typing import Any

from llm_rollout.canary.rotation import Reply

_CUT_BY_THE_SERVER = ("abort", "error")
"""vLLM's finish reasons for answers that it gave up."""


class Stream:
    """The events of one answer. Complete is only what has a finish reason and the end mark ``[DONE]``."""

    def __init__(self, began_seconds: float) -> None:
        """Measure from ``began_seconds``, of any monotonic clock."""
        self._began = began_seconds
        self._rest = b""
        self._text: list[str] = []
        self._ttft_ms: float | None = None
        self._last_ms: float | None = None
        self._ended_ms: float | None = None
        self._tokens: int | None = None
        self._prompt_tokens: int | None = None
        self._finish: str | None = None
        self._done = False
        self._problem = ""

    def feed(self, data: bytes, now_seconds: float) -> None:
        """Take in what arrived, cut anywhere."""
        # Lines end at \n alone: str.splitlines would also cut at U+2028, which models write and servers do not escape.
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                self._event(line[5:].strip(), 1000 * (now_seconds - self._began))

    def reply(self, now_seconds: float) -> Reply:
        """The whole answer, once the connection has ended."""
        elapsed_ms = 1000 * (now_seconds - self._began)
        failure = self._problem or self._missing()
        if failure:
            return Reply("".join(self._text), total_ms=elapsed_ms, failure=failure)
        ended_ms = elapsed_ms if self._ended_ms is None else self._ended_ms
        ttft_ms = ended_ms if self._ttft_ms is None else self._ttft_ms
        tokens = len(self._text) if self._tokens is None else self._tokens
        return Reply(
            "".join(self._text),
            ttft_ms,
            ended_ms,
            tokens,
            prompt_tokens=self._prompt_tokens,
            itl_ms=self._itl_ms(tokens),
        )

    def _itl_ms(self, tokens: int) -> float | None:
        """From the first piece of text to the last: what comes behind it is no token. One piece has no time between."""
        if min(tokens, len(self._text)) < 2 or self._ttft_ms is None or self._last_ms is None:  # noqa: PLR2004 - two
            return None
        return (self._last_ms - self._ttft_ms) / (tokens - 1)

    def _missing(self) -> str:
        if self._finish in _CUT_BY_THE_SERVER:
            return f"finish reason {self._finish}"
        if self._finish is None:
            return "stream without a finish reason"
        return "" if self._done else "stream without [DONE]"

    def _event(self, data: bytes, elapsed_ms: float) -> None:
        if data == b"[DONE]":
            self._done, self._ended_ms = True, elapsed_ms
            return
        try:
            event = json.loads(data)
            error = event.get("error")
            choices = event.get("choices") or []
            usage = event.get("usage") or {}
            self._tokens = usage.get("completion_tokens", self._tokens)
            self._prompt_tokens = usage.get("prompt_tokens", self._prompt_tokens)
            for choice in choices:
                self._choice(choice, elapsed_ms)
        except (ValueError, AttributeError, TypeError):
            self._problem = self._problem or "stream of something else than completions"
            return
        if error:
            self._problem = self._problem or "error in the stream"

    def _choice(self, choice: dict[str, Any], elapsed_ms: float) -> None:
        text = choice.get("text") or (choice.get("delta") or {}).get("content")
        if text:
            self._text.append(str(text))
            self._ttft_ms = elapsed_ms if self._ttft_ms is None else self._ttft_ms
            self._last_ms = elapsed_ms
        self._finish = choice.get("finish_reason") or self._finish
