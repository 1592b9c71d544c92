"""The JSON of answers, whole and in chunks, for completions and for chats."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field
from typing import Any, Protocol

from devcluster.standins.vllm.generation import Answer, Piece
from devcluster.standins.vllm.sampling import Logprobs
from devcluster.standins.vllm.text import TextModel


class Form(Protocol):
    """How answers to one kind of request look."""

    @property
    def chunk_object(self) -> str:
        """The ``object`` field of a chunk."""

    def opening(self) -> dict[str, Any] | None:
        """Return the choice of a chunk that comes before all text, if this form has one."""

    def chunk(self, piece: Piece) -> dict[str, Any]:
        """Return the choice of a chunk."""

    def whole(self, answer: Answer) -> dict[str, Any]:
        """Return the complete answer."""

    def head(self, kind: str) -> dict[str, Any]:
        """Return the fields every message begins with."""

    def usage(self, generated: int) -> dict[str, Any]:
        """Return the counts of tokens."""


@dataclass
class _Base:
    model: str
    prompt: list[int]
    text: TextModel
    wants_logprobs: bool
    prefix: str = ""
    identity: str = field(default_factory=lambda: uuid.uuid4().hex)
    created: int = field(default_factory=lambda: int(time.time()))

    def head(self, kind: str) -> dict[str, Any]:
        return {"id": f"{self.prefix}-{self.identity}", "object": kind, "created": self.created, "model": self.model}

    def usage(self, generated: int) -> dict[str, Any]:
        return {
            "prompt_tokens": len(self.prompt),
            "total_tokens": len(self.prompt) + generated,
            "completion_tokens": generated,
            "prompt_tokens_details": None,
        }

    def _word(self, token: int) -> str:
        return self.text.decode([token], skip_special=False)

    def _prompt_logprobs(self, scored: tuple[Logprobs, ...]) -> list[dict[str, Any] | None] | None:
        if not scored:
            return None
        return [None, *({str(t): self._entry(t, p) for t, p in {**s.top, s.token: s.logprob}.items()} for s in scored)]

    def _entry(self, token: int, logprob: float) -> dict[str, Any]:
        return {"logprob": logprob, "decoded_token": self._word(token)}


@dataclass
class CompletionForm(_Base):
    """Answers of /v1/completions; ``echo`` is text put before the answer, with its tokens where it has logprobs."""

    echo: str = ""
    prefix: str = "cmpl"
    chunk_object: str = "text_completion"
    _offset: int = 0

    def opening(self) -> dict[str, Any] | None:
        """Completions begin with their text."""
        return None

    def chunk(self, piece: Piece) -> dict[str, Any]:
        """Return one choice; the first carries the echoed prompt."""
        echo, self.echo = self.echo, ""
        scored = [piece.logprobs] if piece.logprobs else []
        return self._choice(echo + piece.text, scored, piece.finish_reason, piece.stop_reason)

    def whole(self, answer: Answer) -> dict[str, Any]:
        """Return the completion."""
        scored = [*(answer.prompt_logprobs if self.echo and self.wants_logprobs else ()), *answer.logprobs]
        choice = self._choice(self.echo + answer.text, scored, answer.finish_reason, answer.stop_reason)
        choice["prompt_logprobs"] = self._prompt_logprobs(answer.prompt_logprobs)
        return self.head("text_completion") | {"choices": [choice], "usage": self.usage(len(answer.tokens))}

    def _choice(
        self, text: str, scored: list[Logprobs], finish_reason: str | None, stop_reason: str | int | None
    ) -> dict[str, Any]:
        return {
            "index": 0,
            "text": text,
            "logprobs": self._logprobs(scored) if self.wants_logprobs else None,
            "finish_reason": finish_reason,
            "stop_reason": stop_reason,
        }

    def _logprobs(self, scored: list[Logprobs]) -> dict[str, Any]:
        words = [self._word(entry.token) for entry in scored]
        offsets = []
        for word in words:
            offsets.append(self._offset)
            self._offset += len(word)
        tops = [{self._word(t): p for t, p in {**entry.top, entry.token: entry.logprob}.items()} for entry in scored]
        return {
            "text_offset": offsets,
            "token_logprobs": [entry.logprob for entry in scored],
            "tokens": words,
            "top_logprobs": tops,
        }


@dataclass
class ChatForm(_Base):
    """Answers of /v1/chat/completions."""

    prefix: str = "chatcmpl"
    chunk_object: str = "chat.completion.chunk"

    def opening(self) -> dict[str, Any] | None:
        """Return the chunk that says who speaks."""
        delta = {"role": "assistant", "content": ""}
        return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}

    def chunk(self, piece: Piece) -> dict[str, Any]:
        """Return one choice."""
        choice: dict[str, Any] = {
            "index": 0,
            "delta": {"content": piece.text},
            "logprobs": self._logprobs([piece.logprobs] if piece.logprobs else []),
            "finish_reason": piece.finish_reason,
        }
        return choice | ({} if piece.finish_reason is None else {"stop_reason": piece.stop_reason})

    def whole(self, answer: Answer) -> dict[str, Any]:
        """Return the message."""
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": answer.text, "refusal": None},
            "logprobs": self._logprobs(answer.logprobs),
            "finish_reason": answer.finish_reason,
            "stop_reason": answer.stop_reason,
        }
        return self.head("chat.completion") | {
            "choices": [choice],
            "usage": self.usage(len(answer.tokens)),
            "prompt_logprobs": self._prompt_logprobs(answer.prompt_logprobs),
        }

    def _logprobs(self, scored: list[Logprobs]) -> dict[str, Any] | None:
        if not self.wants_logprobs:
            return None
        content = [
            self._scored(entry.token, entry.logprob)
            | {"top_logprobs": [self._scored(token, logprob) for token, logprob in entry.top.items()]}
            for entry in scored
        ]
        return {"content": content}

    def _scored(self, token: int, logprob: float) -> dict[str, Any]:
        word = self._word(token)
        return {"token": word, "logprob": logprob, "bytes": list(word.encode())}
