"""The text of a file without what terminals, launchers and log collectors add to it."""

from __future__ import annotations

import re

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]?|\][^\x07\x1b\n]*(?:\x07|\x1b\\)?|[()][0-9A-Za-z]|.?)")
_TAGS = re.compile(
    r"^(?:\[\d+,\d+\]<std(?:out|err)>: ?"
    r"| {0,4}\d{1,5}: "
    r"|\[pod/[^\]\s]+\] ?"
    r"|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:?\d\d) "
    r")+",
    re.MULTILINE,
)
"""Of mpirun --tag-output, srun --label, kubectl logs --prefix and --timestamps."""
_LONGEST_TABLE_LINE = 2000


def text_of(data: bytes) -> str | None:
    """The text of a file, None when it is none. Names in another encoding than UTF-8 do no harm."""
    return None if b"\0" in data else data.decode("utf-8", errors="replace")


def clean(text: str) -> str:
    """``text`` without byte order mark, colours, line tags and carriage returns."""
    text = text.removeprefix("\ufeff")
    if "\x1b" in text:
        text = _ESCAPES.sub("", text)
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return _TAGS.sub("", text)


def table_lines(text: str) -> list[str]:
    """The lines that can belong to a table or to a block of settings."""
    return [line for line in text.split("\n") if len(line) <= _LONGEST_TABLE_LINE]
