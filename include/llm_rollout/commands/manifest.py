"""Write the manifest of a directory with a model, which makes it a source for ``llm-rollout stage``.

The commit in it is made from the content: the first 40 hex digits of the SHA-256 of the sorted list of paths, sizes and
digests, so the same files give the same commit. Put the directory at ENDPOINT/ORG/NAME/REVISION/, on s3://, gs:// or
file://, and stage it with --endpoint=ENDPOINT --repo=ORG/NAME --revision=REVISION.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from llm_rollout.commands import job_lines
from llm_rollout.commands.job_lines import tell
from llm_rollout.errors import Permanent
from llm_rollout.staging.listing import DEFAULT_EXCLUDE

SUMMARY = "make a directory with a model a source for stage"

TOOLS = (".git/*", ".cache/*")
"""What git and the hub's own command leave beside the files they fetched."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Define the flags."""
    parser.add_argument("directory", type=Path, metavar="DIR", help="where the model's files are")
    parser.add_argument("--repo", required=True, metavar="ORG/NAME", help="the model repository")
    parser.add_argument("--include", action="append", metavar="GLOB", help="only these files; repeat; default: all")
    usual = ", ".join((*DEFAULT_EXCLUDE, *TOOLS))
    parser.add_argument("--exclude", action="append", metavar="GLOB", help=f"not these; repeat; default: {usual}")


def run(options: argparse.Namespace) -> int:
    """Print JSON lines, the report or the error last. 0 written, 3 not."""
    from llm_rollout.staging.manifest import describe  # noqa: PLC0415 - loaded only by this command

    exclude = options.exclude or (*DEFAULT_EXCLUDE, *TOOLS)
    try:
        told = describe(options.directory.absolute(), options.repo, options.include or (), exclude, tell)
    except (Permanent, OSError) as error:
        message = str(error) if isinstance(error, Permanent) else f"{error.filename}: {error.strerror}"
        tell(job_lines.error("Permanent", message, "see the message"))
        return job_lines.EXIT_PERMANENT
    tell({"event": "report", **asdict(told)})
    return 0
