"""Read files that fabric tools wrote, and print one JSON object for each, in order.

perftest, nccl-tests and NCCL logs, ibv_devinfo, show_gids, multus' network-status and iperf3 are known by their
content. A gate is set only for a run that ended well; a run that failed, or was cut, is an object like any other, with
the class of its error. Exit code 0, or 2 when a file cannot be opened.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from llm_rollout.commands import job_lines
from llm_rollout.commands.job_lines import tell

SUMMARY = "read the output of fabric tools: what ran, how fast, over what, why not"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Define the flags."""
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="output of one run of a tool")


def run(options: argparse.Namespace) -> int:
    """Print one object for each file. Nothing is printed when one of them cannot be opened."""
    from llm_rollout.fabric.reading import read  # noqa: PLC0415 - loaded only by this command

    for path in options.files:
        try:
            path.open("rb").close()
        except OSError as error:
            print(f"{path}: {error.strerror}; give files that a tool's output was written to", file=sys.stderr)
            return job_lines.EXIT_USAGE
    for path in options.files:
        tell(read(path.read_bytes()).as_json())
    return 0
