"""Remove from a store what nobody needs: commits that are no root, and content that no remaining commit names.

Nobody else tells which commits are in use: name each as a root. What was published, or staged again, within the grace
stays anyway, and engines keep the files that they hold open.
"""

from __future__ import annotations

import argparse
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

from llm_rollout.commands import flags, job_lines
from llm_rollout.commands.job_lines import EXIT_PERMANENT, EXIT_TRANSIENT, EXIT_USAGE, tell
from llm_rollout.errors import Permanent, Transient

if TYPE_CHECKING:
    from llm_rollout.staging.collection import Root

SUMMARY = "remove commits and content from a store that nobody needs"

DEFAULT_KEEP = 2
DEFAULT_GRACE_SECONDS = 24 * 3600
"""Longer than a rollout takes from staging its commit to being in the record, and a night to notice a mistake."""
_ROOT = re.compile(r"([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)@([0-9a-f]{40})", re.ASCII)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Define the flags."""
    parser.add_argument("--store", required=True, type=Path, metavar="DIR", help="the model store")
    parser.add_argument(
        "--root", action="append", type=_root, default=[], metavar="ORG/NAME@COMMIT", help="a commit in use; repeat"
    )
    parser.add_argument(
        "--keep",
        type=_count,
        default=DEFAULT_KEEP,
        metavar="K",
        help="the newest commits of each repository that stay (%(default)s: what serves, and what a roll back needs)",
    )
    parser.add_argument(
        "--grace",
        type=flags.seconds,
        default=float(DEFAULT_GRACE_SECONDS),
        metavar="SECONDS",
        help="what was published, staged again or written since stays (%(default)s)",
    )
    parser.add_argument("--dry-run", action="store_true", help="write nothing, only say what would go")


def run(options: argparse.Namespace) -> int:
    """Print JSON lines, the report or the error last. 0 done, 2 nothing would stay, 3 and 4 as in the README."""
    from llm_rollout.staging import collection  # noqa: PLC0415 - loaded only by this command

    if not options.keep and not options.root:
        tell(job_lines.error("Usage", "--keep 0 without a --root would leave nothing", "name the commits in use"))
        return EXIT_USAGE
    job_lines.unwind_on_sigterm()
    request = collection.Request(
        store=options.store.absolute(),
        roots=tuple(options.root),
        keep=options.keep,
        grace_seconds=options.grace,
        began=time.time(),
        dry_run=options.dry_run,
    )
    try:
        tell(collection.as_line(collection.collect(request, tell)))
    except Permanent as error:
        tell(job_lines.store_error(error, EXIT_PERMANENT))
        return EXIT_PERMANENT
    except Transient as error:
        tell(job_lines.store_error(error, EXIT_TRANSIENT))
        return EXIT_TRANSIENT
    return 0


def _root(text: str) -> Root:
    from llm_rollout.staging.collection import Root  # noqa: PLC0415 - loaded only by this command

    parts = _ROOT.fullmatch(text)
    if parts is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not ORG/NAME@COMMIT with a commit of 40 hex digits")
    return Root(*parts.groups())


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of commits")
    return int(text)
