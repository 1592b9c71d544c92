"""Say what is bad in a measured fabric: one matrix of bandwidths in, one verdict out.

FILE holds one matrix as JSON, or several one after the other; - reads one matrix a line from standard input. For each
matrix one line is printed, in the same order: {"verdict": "PASS|DEGRADED|FAIL|INCONCLUSIVE", "findings": [...]}.
A matrix has nodes, rails, port_rate_gbps, transport, thresholds and cells; only the transports ib and roce can PASS.
Exit 0 whatever the verdicts are, 2 at the first line that is no matrix, with its number and field.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from llm_rollout.commands.job_lines import EXIT_USAGE, tell
from llm_rollout.errors import Permanent

SUMMARY = "name the bad node, NIC, link, rail or setting in a matrix of bandwidths"
_BLANK = re.compile(r"\s*")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Define the flags."""
    parser.add_argument("file", metavar="FILE", help="a matrix as JSON; - for JSON Lines on standard input")


def run(options: argparse.Namespace) -> int:
    """Print one verdict for each matrix; 0, or 2 when something is no matrix."""
    try:
        for number, value in _values(options.file):
            tell(_verdict(value, f"{options.file}: line {number}"))
    except Permanent as error:
        print(f"llm-rollout attribute: {error}", file=sys.stderr)
        return EXIT_USAGE
    return 0


def _verdict(value: Any, where: str) -> dict[str, Any]:
    from llm_rollout.fabric import judgement, matrix_json  # noqa: PLC0415 - loaded only by this command

    try:
        matrix = matrix_json.read(value)
    except matrix_json.NotAMatrixError as error:
        raise Permanent(f"{where}: {error}") from error
    return matrix_json.as_json(matrix, judgement.judge(matrix))


def _values(file: str) -> Iterator[tuple[int, Any]]:
    """The JSON values and the lines on which they begin."""
    if file == "-":
        return _lines(sys.stdin.buffer)
    try:
        return _one_after_the_other(Path(file).read_bytes().decode(), file)
    except OSError as error:
        raise Permanent(f"{file}: {error.strerror}: name a file that can be read, or - for standard input") from error
    except UnicodeDecodeError as error:
        raise Permanent(f"{file}: it is not UTF-8 text: {error.reason} at byte {error.start}") from error


def _lines(lines: Iterable[bytes]) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except (ValueError, RecursionError) as error:
                raise Permanent(f"-: line {number}: it is not JSON: {error}") from error


def _one_after_the_other(text: str, file: str) -> Iterator[tuple[int, Any]]:
    decoder, line, at = json.JSONDecoder(), 1, 0
    begins = _next(text, 0)
    if begins == len(text):
        raise Permanent(f"{file}: line 1: it is empty, where a matrix should be")
    while begins < len(text):
        line += text.count("\n", at, begins)
        try:
            value, end = decoder.raw_decode(text, begins)
        except (ValueError, RecursionError) as error:
            raise Permanent(f"{file}: line {line}: it is not JSON: {error}") from error
        yield line, value
        at, begins = begins, _next(text, end)


def _next(text: str, after: int) -> int:
    found = _BLANK.match(text, after)
    return found.end() if found else after
