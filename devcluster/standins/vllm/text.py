"""Text to tokens and back: the model's tokenizer, its chat template, and text that grows token by token."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_REPLACEMENT = "\ufffd"


class TextModel:
    """The tokenizer of a model directory."""

    def __init__(self, directory: Path, chat_template: str | None = None) -> None:
        """Load ``tokenizer.json``; ``chat_template`` (a file or the template itself) replaces the model's own.

        Raises:
            OSError: A file is missing.
        """
        from tokenizers import Tokenizer  # noqa: PLC0415

        self._tokenizer = Tokenizer.from_str((directory / "tokenizer.json").read_text(encoding="utf-8"))
        config = json.loads((directory / "tokenizer_config.json").read_text(encoding="utf-8"))
        self._marks = {name: config[name] for name in ("bos_token", "eos_token") if isinstance(config.get(name), str)}
        self._template = _template_text(chat_template) if chat_template else config.get("chat_template")

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Return the tokens of ``text``."""
        return list(self._tokenizer.encode(text, add_special_tokens=add_special_tokens).ids)

    def decode(self, tokens: list[int], *, skip_special: bool = True) -> str:
        """Return the text of ``tokens``."""
        return str(self._tokenizer.decode(tokens, skip_special_tokens=skip_special))

    def chat(self, messages: list[dict[str, Any]], *, add_generation_prompt: bool = True) -> str:
        """Return the prompt for a conversation.

        Raises:
            ValueError: There is no template, or it does not take these messages.
        """
        from jinja2 import TemplateError  # noqa: PLC0415
        from jinja2.sandbox import ImmutableSandboxedEnvironment  # noqa: PLC0415

        if not self._template:
            raise ValueError("the model has no chat template; give one by --chat-template")
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        try:
            template = environment.from_string(self._template)
            return template.render(messages=messages, add_generation_prompt=add_generation_prompt, **self._marks)
        except TemplateError as error:
            raise ValueError(f"the chat template refused the messages: {error}") from error


def _template_text(given: str) -> str:
    return given if "{" in given else Path(given).read_text(encoding="utf-8")


class GrowingText:
    """The text of a growing answer; bytes of a character that is not complete yet are held back."""

    def __init__(self, model: TextModel, *, skip_special: bool) -> None:
        """Start empty."""
        self._model = model
        self._skip_special = skip_special
        self._tokens: list[int] = []
        self._length = 0

    def add(self, token: int) -> str:
        """Return the text that ``token`` added."""
        self._tokens.append(token)
        text = self._model.decode(self._tokens, skip_special=self._skip_special)
        return "" if text.endswith(_REPLACEMENT) else self._since(text)

    def rest(self) -> str:
        """Return what is still held back."""
        return self._since(self._model.decode(self._tokens, skip_special=self._skip_special))

    def _since(self, text: str) -> str:
        added, self._length = text[self._length :], len(text)
        return added


class StopScanner:
    """Cuts an answer at the first stop string, holding back what might become one."""

    def __init__(self, stop: tuple[str, ...], *, include: bool) -> None:
        """Look for ``stop``; with ``include`` the stop string itself stays in the answer."""
        self._stop = stop
        self._include = include
        self._hold = max(map(len, stop), default=1) - 1
        self._pending = ""

    def add(self, text: str) -> tuple[str, str | None]:
        """Return the text that is safe to hand out and, if one was found, the stop string."""
        self._pending += text
        found = [(self._pending.find(stop), stop) for stop in self._stop if stop in self._pending]
        if found:
            at, stop = min(found)
            return self._pending[: at + (len(stop) if self._include else 0)], stop
        safe = max(0, len(self._pending) - self._hold)
        out, self._pending = self._pending[:safe], self._pending[safe:]
        return out, None

    def rest(self) -> str:
        """Return what is held back when the answer ends otherwise."""
        out, self._pending = self._pending, ""
        return out
