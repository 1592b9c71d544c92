"""Make a task set for the canary from what other tools wrote, or from captured traffic.

``lm-eval`` reads samples_*.jsonl of ``lm_eval --log_samples``, ``guidellm`` a JSON report, ``traffic`` bodies of OpenAI
requests, one a line: e-mail addresses, telephone and card numbers, IP addresses and secrets are taken out of those by
their shape. Prints the tasks; a summary goes to standard error.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from pathlib import Path

from llm_rollout.errors import Permanent

SUMMARY = "make a task set for the canary from samples, reports or captured traffic"
_SOURCES = ("lm-eval", "guidellm", "traffic")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Define the flags."""
    parser.add_argument("source", choices=_SOURCES, help="what wrote the files")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")


def run(options: argparse.Namespace) -> int:
    """Print one task a line, each question once; nothing is printed unless all files are read."""
    from llm_rollout.canary import importing, task_set  # noqa: PLC0415 - loaded only by this command

    whole = importing.Imported()
    for file in options.files:
        found = importing.READERS[options.source](_text(file), str(file))
        whole.repeated += found.repeated
        whole.redacted += found.redacted
        for task in found.tasks:
            whole.add({key: value for key, value in task.items() if key != "id"})
    lines = "".join(f"{json.dumps(task, ensure_ascii=False)}\n" for task in whole.tasks)
    graded = task_set.graded(task_set.parse(lines, "the imported tasks"))
    print(lines, end="")
    print(_told(len(whole.tasks), graded, whole.repeated, whole.redacted), file=sys.stderr)
    return 0


def _told(tasks: int, graded: int, repeated: int, redacted: Counter[str]) -> str:
    out = ", ".join(f"{count} {kind}" for kind, count in sorted(redacted.items()))
    return (
        f"{tasks} tasks, {graded} with an answer; {repeated} repeated questions left out"
        + (f"; taken out: {out}" if out else "")
        + ("" if graded else "; add tasks with answers: without them the canary knows nothing of quality")
    )


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Permanent(f"{file}: cannot be read ({error}): give a file in UTF-8") from None
