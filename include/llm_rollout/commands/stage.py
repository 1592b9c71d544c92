"""Bring one commit of a model repository onto a store: every byte proven, resumable, published by one rename.

Run again after whatever stopped it, it goes on where it was; run again after success, it fetches nothing. The token
is read from HF_TOKEN only.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from llm_rollout.commands import flags, job_lines
from llm_rollout.commands.job_lines import EXIT_NO_SPACE, EXIT_PERMANENT, EXIT_TRANSIENT
from llm_rollout.errors import Permanent, Transient
from llm_rollout.staging.listing import DEFAULT_EXCLUDE

SUMMARY = "bring a commit's files onto a store, proven and published as a whole"

DEFAULT_ENDPOINT = "https://huggingface.co"
DEFAULT_CONNECTIONS = 64
"""A connection brings about 90 MB/s from the public hub (xet-core issue 898): 64 fill 40 Gbit/s."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Define the flags."""
    parser.add_argument("--repo", required=True, metavar="ORG/NAME", help="the model repository")
    parser.add_argument("--revision", default="main", help="branch, tag or commit (%(default)s)")
    parser.add_argument("--store", required=True, type=Path, metavar="DIR", help="the model store, as a rule a PVC")
    parser.add_argument(
        "--endpoint",
        help=f"a hub, s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or file:///DIRECTORY ({DEFAULT_ENDPOINT}, or HF_ENDPOINT)",
    )
    parser.add_argument("--include", action="append", metavar="GLOB", help="only these files; repeat; default: all")
    usual = ", ".join(DEFAULT_EXCLUDE)
    parser.add_argument("--exclude", action="append", metavar="GLOB", help=f"not these; repeat; default: {usual}")
    parser.add_argument(
        "--connections",
        type=_positive,
        default=DEFAULT_CONNECTIONS,
        metavar="N",
        help="at most (%(default)s); it begins with 4 and doubles them while that makes it faster",
    )
    parser.add_argument(
        "--give-up-after",
        type=flags.seconds,
        default=300.0,
        metavar="SECONDS",
        help="end when nothing new has come for so long (%(default)s)",
    )


def run(options: argparse.Namespace) -> int:
    """Print JSON lines, the report or the error last. 0 staged or already there, 3, 4, 5 as in the README."""
    from llm_rollout.staging.store import NoSpace  # noqa: PLC0415 - loaded only by this command

    token = os.environ.get("HF_TOKEN", "").strip()
    with job_lines.Ending() as ending, _output(token) as emit:
        try:
            emit(_stage(options, token, emit, ending.grant))
        except NoSpace as error:
            emit(job_lines.store_error(error, EXIT_NO_SPACE))
            return EXIT_NO_SPACE
        except Permanent as error:
            emit(job_lines.store_error(error, EXIT_PERMANENT))
            return EXIT_PERMANENT
        except Transient as error:
            emit(job_lines.store_error(error, EXIT_TRANSIENT))
            return EXIT_TRANSIENT
    return 0


def _stage(options: argparse.Namespace, token: str, emit: Any, may_end: Callable[[], None]) -> Mapping[str, Any]:
    endpoint = options.endpoint or os.environ.get("HF_ENDPOINT") or DEFAULT_ENDPOINT
    # The hub's library reads these at import; its warnings would repeat what a server writes.
    os.environ.update(HF_ENDPOINT=endpoint, HF_HUB_VERBOSITY="critical", HF_HUB_DISABLE_TELEMETRY="1")
    from llm_rollout.adapters.sources import Sources  # noqa: PLC0415 - after the lines above
    from llm_rollout.staging import staging  # noqa: PLC0415 - loaded only by this command

    if token and not (token.isascii() and token.isprintable() and " " not in token):
        raise Permanent("HF_TOKEN holds characters that no token has: set it to the token alone")
    request = staging.Request(
        repo=options.repo,
        revision=options.revision,
        store=options.store.absolute(),
        endpoint=endpoint,
        token=token or None,
        include=tuple(options.include or ()),
        exclude=tuple(options.exclude) if options.exclude else DEFAULT_EXCLUDE,
        connections=options.connections,
        give_up_after_seconds=options.give_up_after,
    )
    _allow_many_files()
    return staging.as_line(staging.stage(request, Sources(), emit, may_end))


@contextlib.contextmanager
def _output(token: str) -> Iterator[Any]:
    """One JSON object a line; a bar on a terminal. The token is taken out of whatever a server repeated."""
    if sys.stdout.isatty():
        from llm_rollout.staging.bar import bar  # noqa: PLC0415 - rich takes its time to load

        with bar() as show:
            yield lambda line: show(json.loads(_masked(line, token)))
        return
    yield lambda line: print(_masked(line, token), flush=True)


def _masked(line: Mapping[str, Any], token: str) -> str:
    text = json.dumps(line)
    return text.replace(token, "***") if token else text


def _allow_many_files() -> None:
    """Every file that is arriving stays open, and a repository may have thousands."""
    import resource  # noqa: PLC0415 - only here, and not on every system

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65536) if hard > 0 else 65536, hard))


def _positive(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 256:  # noqa: PLR2004 - more only makes hubs refuse
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 256")
    return int(text)
