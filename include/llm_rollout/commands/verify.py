"""Read a published commit, every byte, and name each file that is not as it was staged. It needs no hub."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from llm_rollout.errors import Permanent

SUMMARY = "compare a staged commit with its digests, every byte"

EXIT_PERMANENT = 3


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
        found = verify(Store(options.store.absolute()), options.repo, options.commit, _print)
    except (Permanent, OSError) as error:
        message = str(error) if isinstance(error, Permanent) else f"{options.store}: {error.strerror}"
        _print({"event": "error", "class": "Permanent", "message": message, "remedy": "see the message"})
        return EXIT_PERMANENT
    _print({"event": "report", **asdict(found)})
    return EXIT_PERMANENT if found.missing or found.mismatches else 0


def _print(line: Mapping[str, Any]) -> None:
    print(json.dumps(line), flush=True)
