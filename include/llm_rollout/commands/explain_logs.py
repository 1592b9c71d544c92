"""Say what an engine's logs show: how far it is, and why it failed.

For each FILE, in order, one line:
{"file", "phase", "progress", "cause": null | {"class", "message", "line", "remedy"}}.
The progress is in percent of the phase, null where the log does not tell it. For several files, taken as the logs of
one group with the leader's first, a last line {"group": true, "first": null | {"file", "class", "line"}} names what
came first. - reads standard input. Exit 0, or 2 when a file cannot be read: it is named on standard error, the others
are answered.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from llm_rollout.coldstart.words import Cause, Reading
from llm_rollout.commands.job_lines import EXIT_USAGE, tell

SUMMARY = "say how far a starting engine is and why it failed, from its logs"
_STANDARD_INPUT = "-"


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
        data = sys.stdin.buffer.read() if name == _STANDARD_INPUT else Path(name).read_bytes()
    except OSError as error:
        print(f"{name}: {error.strerror}: name a file that can be read, or - for standard input", file=sys.stderr)
        return None
    return data.decode("utf-8", errors="replace")


def _as_json(name: str, read: Reading) -> dict[str, Any]:
    progress = None if read.progress is None else read.progress.percent
    return {"file": name, "phase": read.phase, "progress": progress, "cause": _told(read.cause)}


def _told(cause: Cause | None) -> dict[str, Any] | None:
    if cause is None:
        return None
    return {"class": cause.class_name, "message": cause.message, "line": cause.line, "remedy": cause.remedy}


def _named(cause: Cause | None) -> dict[str, Any] | None:
    return None if cause is None else {"file": cause.source, "class": cause.class_name, "line": cause.line}
