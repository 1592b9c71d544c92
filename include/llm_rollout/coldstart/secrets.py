"""Keys that engines print: masked in every word and every log that is kept of a start."""

from __future__ import annotations

import re

from llm_rollout.spec_problems import masked

_NAMED = re.compile(
    r"(?i)\b([\w-]*(?:api[-_]?key|token|secret|passw(?:or)?d|access[-_]?key))([\"']?\s*[:=]\s*[\"']?)[^\s\"',;)}]{8,}"
)
_BARE = re.compile(r"\b(?:sk-[A-Za-z0-9_-]{16,}|AKIA[0-9A-Z]{16}|eyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]+)")


def without_keys(text: str) -> str:
    """``text`` without what looks like a key, a token or a password, by its name or by its shape."""
    return _BARE.sub("***", _NAMED.sub(r"\1\2***", masked(text)))
