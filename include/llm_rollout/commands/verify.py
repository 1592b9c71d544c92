"""Read a published commit, every byte, and name each file that is not as it was staged. It needs no hub."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from llm_rollout.commands import job_lines
from llm_rollout.commands.job_lines import tell
from llm_rollout.errors import Permanent

SUMMARY = "compare a staged commit with its digests, every byte"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Define the flags."""
    parser.add_argument("--repo", required=True, metavar="ORG/NAME", help="the model repository")
    parser.add_argument("--commit", required=True, help="40 hex digits")
    parser.add_argument("--store", required=True, type=Path, metavar="DIR", help="the model store")


def run(options: argparse.Namespace) -> int:
    """Print JSON lines, the report or the error last. 0 all as staged, 3 not."""
    from llm_rollout.staging.store import Store  # noqa: PLC0415 - loaded only by this command
    from llm_rollout.staging.verification import verify  # noqa: PLC0415

    try:
        found = verify(Store(options.store.absolute()), options.repo, options.commit, tell)
    except (Permanent, OSError) as error:
        message = str(error) if isinstance(error, Permanent) else f"{options.store}: {error.strerror}"
        tell(job_lines.error("Permanent", message, "see the message"))
        return job_lines.EXIT_PERMANENT
    tell({"event": "report", **asdict(found)})
    return job_lines.EXIT_PERMANENT if found.missing or found.mismatches else 0
