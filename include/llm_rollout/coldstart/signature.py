"""How one cause is said: its class, the pattern of the words, and a line of which the pattern must know the class."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Signature:
    """How one cause is said."""

    class_name: str
    pattern: re.Pattern[str]
    example: str
    soft: bool = False
    """Said also where the engine goes on: a cause only where it then ends."""
    bare: bool = False
    """Says that a process was killed, and no more: no cause where an error came before."""


def sign(class_name: str, pattern: str, example: str, *, soft: bool = False, bare: bool = False) -> Signature:
    """A signature, of a pattern as text."""
    return Signature(class_name, re.compile(pattern), example, soft, bare)
