"""What is wrong with a file, said so that the reader can put it right without opening anything else."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llm_rollout.errors import Permanent


class _NoValue:
    def __repr__(self) -> str:
        return "no value"


NO_VALUE = _NoValue()
"""The value of a field that is not there."""

_LONGEST_VALUE = 80
_TOKEN = re.compile(r"hf_[A-Za-z0-9]{6,}")
_CREDENTIALS = re.compile(r"(?<=://)[^\s/@]+@")
_BEARER = re.compile(r"\b([Bb]earer|[Bb]asic) [\w.~+/-]{8,}=*")


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: in which file, at which field, with which value, why, and what to do about it."""

    file: str
    field_path: str
    """Dotted, list items in brackets, "" for the file as a whole."""
    value: Any
    message: str
    remedy: str

    def __str__(self) -> str:
        """One line. Tokens in it are masked, whatever field they were found in."""
        value = repr(NO_VALUE) if self.value is NO_VALUE else f"value {_shown(self.value)}"
        parts = (self.file, self.field_path, "" if not self.field_path else value, self.message, self.remedy)
        return masked(" ".join(": ".join(part for part in parts if part).split()))


class SpecError(Permanent):
    """A spec cannot be used; ``problems`` holds everything that is wrong with it, one line each as text."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)


def holds_secret(text: str) -> bool:
    """Whether a hub token or a password in an address stands in ``text``."""
    return bool(_TOKEN.search(text) or _CREDENTIALS.search(text))


def masked(text: str) -> str:
    """``text`` without its hub tokens, passwords and credentials of HTTP headers."""
    return _BEARER.sub(r"\1 ***", _CREDENTIALS.sub("***@", _TOKEN.sub("hf_***", text)))


def field_path(parts: Sequence[str | int]) -> str:
    """``("server", "extra_args", 0)`` as ``server.extra_args[0]``."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)
    return text.removeprefix(".")


def file_problem(path: Path, message: str, remedy: str) -> Problem:
    """A problem of the file as a whole."""
    return Problem(str(path), "", NO_VALUE, message, remedy)


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 1]}…"
