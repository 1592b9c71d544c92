"""The ``llm-rollout`` command."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from types import ModuleType

from llm_rollout import __version__
from llm_rollout.commands.job_lines import EXIT_PERMANENT, EXIT_TRANSIENT
from llm_rollout.errors import Permanent, Transient

COMMANDS = (
    "check",
    "status",
    "stage",
    "verify",
    "manifest",
    "gc",
    "fabric",
    "probe",
    "evaluate",
    "import-tasks",
    "judge",
    "read-fabric",
    "attribute",
    "explain-logs",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand and return its exit code: 0 fine, 2 usage, 3 permanent, 4 transient."""
    given = sys.argv[1:] if arguments is None else arguments
    # Loading them all takes longer than some of them run: only help needs every one.
    asked = given[:1] if given and given[0] in COMMANDS else COMMANDS
    options = _parser(asked).parse_args(given)
    command = _module(options.command)
    try:
        return int(command.run(options))
    except Permanent as error:
        print(error, file=sys.stderr)
        return EXIT_PERMANENT
    except Transient as error:
        print(error, file=sys.stderr)
        return EXIT_TRANSIENT


def _module(command: str) -> ModuleType:
    return importlib.import_module(f"llm_rollout.commands.{command.replace('-', '_')}")


def _parser(commands: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="llm-rollout", description=__doc__)
    parser.add_argument("--version", action="version", version=__version__)
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in commands:
        module = _module(name)
        sub = subparsers.add_parser(name, help=module.SUMMARY, description=module.__doc__)
        module.arguments(sub)
    return parser
