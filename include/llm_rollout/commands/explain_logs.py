"""Say what an engine's logs show: how far it is, and why it failed.

For each FILE, in order, one line:
{"file", "phase", "progress", "cause": null | {"class", "message", "line", "remedy"}}.
The progress is in percent of the phase, null where the log does not tell it. For several files, taken as the logs of
one group with the leader's first, a last line {"group": true, "first": null | {"file", "class", "line"}} names what
came first. - reads standard input. Exit 0, or 2 when a file cannot be read: it is named on standard error, the others
are answered. Of a file above 32 million characters the first and the last half of that are read, and where engines
started between them.
"""

from __future__ import annotations

import argparse
import io
import re
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, Final

from llm_rollout.coldstart.words import Cause, Reading
from llm_rollout.commands.job_lines import EXIT_USAGE, tell

SUMMARY = "say how far a starting engine is and why it failed, from its logs"
HALF_CHARACTERS: Final = 16_000_000
"""What is read of each end of a long log: two seconds' work, and far above what a start writes."""
_STANDARD_INPUT = "-"
_STARTS = re.compile(r"vLLM (?:API )?server version|█.{0,200} version \d|Launching vLLM ")
_WIDE = (b"\xff\xfe", b"\xfe\xff")
_LONGEST_LINE = 100_000


def arguments(parser: argparse.ArgumentParser) -> None:
    """Define the flags."""
    parser.add_argument("files", nargs="+", metavar="FILE", help="a log of one container; - for standard input")


def run(options: argparse.Namespace) -> int:
    """Print one object for each file, and one for the group; 2 when a file cannot be read."""
    from llm_rollout.coldstart import first_cause, reading  # noqa: PLC0415 - loaded only by this command

    texts = {name: text for name in dict.fromkeys(options.files) if (text := _text(name)) is not None}
    readings = {name: reading.read(text) for name, text in texts.items()}
    for name in options.files:
        if name in readings:
            tell(_as_json(name, readings[name]))
    if len(options.files) > 1:
        tell({"group": True, "first": _named(first_cause.first_of_group(readings, texts))})
    return 0 if len(texts) == len(set(options.files)) else EXIT_USAGE


def _text(name: str) -> str | None:
    try:
        with ExitStack() as opened:
            file = sys.stdin.buffer if name == _STANDARD_INPUT else opened.enter_context(Path(name).open("rb"))
            return shortened(_rows(file))
    except OSError as error:
        print(f"{name}: {error.strerror}: name a file that can be read, or - for standard input", file=sys.stderr)
        return None


def _rows(file: BinaryIO) -> Iterator[str]:
    """The lines of a file, long ones cut."""
    buffered = io.BufferedReader(file)  # type: ignore[type-var]  # any stream of bytes will do
    encoding = "utf-16" if buffered.peek(2)[:2] in _WIDE else "utf-8"
    text = io.TextIOWrapper(buffered, encoding, errors="replace", newline="\n")
    while row := text.readline(_LONGEST_LINE):
        rest = row
        while rest and not rest.endswith("\n"):
            rest = text.readline(_LONGEST_LINE)
        yield row if row.endswith("\n") or not rest else f"{row}\n"
    buffered.detach()


def shortened(rows: Iterable[str], half: int = HALF_CHARACTERS) -> str:
    """The text of ``rows``; of a long one both ends, with empty lines for what was left out between them."""
    head: list[str] = []
    tail: deque[str] = deque()
    left_out: list[str] = []
    head_size = tail_size = 0
    for row in rows:
        if head_size < half:
            head.append(row)
            head_size += len(row)
            continue
        tail.append(row)
        tail_size += len(row)
        while tail_size > half:
            gone = tail.popleft()
            tail_size -= len(gone)
            left_out.append(gone if _STARTS.search(gone) else "\n")
    return "".join((*head, *left_out, *tail))


def _as_json(name: str, read: Reading) -> dict[str, Any]:
    progress = None if read.progress is None else read.progress.percent
    return {"file": name, "phase": read.phase, "progress": progress, "cause": _told(read.cause)}


def _told(cause: Cause | None) -> dict[str, Any] | None:
    if cause is None:
        return None
    return {"class": cause.class_name, "message": cause.message, "line": cause.line, "remedy": cause.remedy}


def _named(cause: Cause | None) -> dict[str, Any] | None:
    return None if cause is None else {"file": cause.source, "class": cause.class_name, "line": cause.line}
