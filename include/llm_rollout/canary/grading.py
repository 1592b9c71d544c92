"""Right or wrong, by a rule that needs no judgement."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType


def _exact(given: str, wanted: str) -> bool:
    return given.strip() == wanted.strip()


GRADERS: Mapping[str, Callable[[str, str], bool]] = MappingProxyType({"exact": _exact})
"""``exact``: the whole answer without the white space around it."""
