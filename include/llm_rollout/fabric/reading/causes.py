"""The words of failures, and which failure explains another.

Sources of the words: perftest 4.4 to 26.01 (perftest_resources.c, perftest_communication.c), NCCL 2.4 to 2.30
(transport/net_ib, misc/ibvwrap.cc, bootstrap.cc), nccl-tests 2.0 to 2.19 (common.h).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

ErrorClass = Literal[
    "image", "ifname", "port", "no-device", "memlock", "gid", "gdr-missing", "access", "timeout", "wrong-data",
    "socket-fallback", "oob", "flush", "other", "truncated", "no-gdr",
]  # fmt: skip
"""Causes before their effects: a library that the image lacks ends in sockets, a port that is down or a wrong GID in a
peer that does not answer, and any failure of one end in a lost control connection at the other."""

_RANKS = {name: rank for rank, name in enumerate(get_args(ErrorClass))}
_BEFORE_CHARACTERS = 300
_AFTER_CHARACTERS = 700
"""How much of a line is looked at around a word, so that one endless line costs no more than many short ones."""


@dataclass(frozen=True)
class Cause:
    """Why a run failed: the class, and the words that say so."""

    error_class: ErrorClass
    words: str


@dataclass(frozen=True)
class Sign:
    """``needle`` finds a line quickly, ``pattern`` must then match there; both are case sensitive."""

    error_class: ErrorClass
    needle: str
    pattern: re.Pattern[str]


def sign(error_class: ErrorClass, needle: str, pattern: str = "") -> Sign:
    """A sign; without a pattern the needle is enough."""
    return Sign(error_class, needle, re.compile(pattern or re.escape(needle)))


def first(causes: Sequence[Cause]) -> Cause | None:
    """The cause that explains the others; of equal ones the one that was found first."""
    return min(causes, key=lambda cause: _RANKS[cause.error_class], default=None)


def found(text: str, signs: Iterable[Sign]) -> Iterator[Cause]:
    """One cause for each sign that the text shows."""
    for each in signs:
        for place in places(text, each.needle):
            if match := each.pattern.search(place):
                yield Cause(each.error_class, match.group(0).strip())
                break


def completions(text: str) -> Iterator[Cause]:
    """What failed work completions stand for; the numbers are those of ``enum ibv_wc_status``."""
    seen: set[str] = set()
    for needle, pattern in _COMPLETIONS:
        for place in places(text, needle):
            match = pattern.search(place)
            status = match.group(1) if match else ""
            if status not in seen | {"", "0"}:
                seen.add(status)
                yield Cause(_STATUS_CLASSES.get(status, "other"), f"completion status {status}")


def places(text: str, needle: str) -> Iterator[str]:
    """The parts of lines around each occurrence of ``needle``, in time proportional to the text."""
    at = text.find(needle)
    while at >= 0:
        start = text.rfind("\n", max(0, at - _BEFORE_CHARACTERS), at) + 1 or max(0, at - _BEFORE_CHARACTERS)
        stop = at + len(needle) + _AFTER_CHARACTERS
        end = text.find("\n", at, stop)
        end = min(stop, len(text)) if end < 0 else end
        yield text[start:end]
        at = text.find(needle, end)


_STATUS_CLASSES: dict[str, ErrorClass] = {
    "4": "access",  # local protection error
    "5": "flush",  # the queue pair was in error already
    "8": "access",  # local access error
    "10": "access",  # remote access error
    "12": "timeout",  # transport retry counter exceeded
}
_COMPLETIONS = (
    ("Failed status", re.compile(r"Failed status[^\n:0-9]{0,80}(\d{1,3})")),
    ("ot completion", re.compile(r"ot completion [^\n]{0,150}?(?:status=|error )(?:[A-Za-z_ -]{0,60}\()?(\d{1,3})")),
)

SHARED = (
    sign("image", "error while loading shared libraries"),
    sign("image", "not found", r"(?:ib_\w+|ibv_devinfo|show_gids|\w+_perf)\S{0,4} (?:command )?not found"),
    sign("image", "executable file not found"),
    sign("other", "command terminated with"),
    sign("other", "exited on signal"),
    sign("other", "non-zero exit"),
    sign("other", "Segmentation fault"),
)
"""What shells and launchers say after a failed run."""
