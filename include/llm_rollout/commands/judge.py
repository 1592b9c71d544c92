"""Judge candidates by rounds that somebody else measured: one round a line in, one decision a line out.

Standard input has lines such as {"rollout": "any id", "pairs": [{"stable": {"ok": true, "ttft_ms": 312.0,
"total_ms": 2100.0, "tokens": 64, "correct": true}, "candidate": {...}}, ...]}. "round" (a number seen before is not
counted again) and "prompt_tokens" of a request are optional; a request that failed needs no times. Each line is
answered at once by {"rollout", "round", "decision": "continue|promote|rollback|undecided", "metric", "evidence",
"sentence"}: "wealth" of the evidence rolls back at 1 / alpha, and a promotion takes every required metric of
"not_worse" at 1 / beta. Exit 0 whatever was decided, 2 at the first line that is no round.

--config names a YAML or JSON file with any of these keys (default): alpha (0.05) one rollback in 20 of candidates as
good as stable, which a person will look at; beta (0.05) the same for promotions of worse ones; round_pairs (50), to
outlast what one side suffers alone; cap_pairs (3000), twice what nearly all decisions take; min_rounds (7), more than
an incident lasts; warmup_pairs (250), whose times do not count while a new server warms up; required (errors, ttft,
tail, itl, quality), what users notice; weights, the most to what is hardest to see; tolerance, what hosts of one kind
differ by; margin, the least that users would notice; history (none), stable's p90, p95, p99 of TTFT in milliseconds.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from llm_rollout.commands.job_lines import EXIT_TRANSIENT, EXIT_USAGE, tell
from llm_rollout.errors import Permanent

if TYPE_CHECKING:
    from llm_rollout.canary.rules import Rules

SUMMARY = "decide on candidates by rounds of measured pairs: promote, roll back, or go on"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Define the flags."""
    parser.add_argument("--config", metavar="FILE", help="YAML or JSON with limits (default: the shipped ones)")


def run(options: argparse.Namespace) -> int:
    """Print one decision for each round; 0, or 2 when something is no round or no configuration, 4 if it cannot say."""
    # No round refers to itself, so that to look for such things would only take time.
    gc.disable()
    try:
        _judge(_rules(options.config))
    except Permanent as error:
        print(f"llm-rollout judge: {error}", file=sys.stderr)
        return EXIT_USAGE
    except OSError as error:
        # Python would try once more when it ends, and complain of it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        print(f"llm-rollout judge: a decision could not be written: {error.strerror}", file=sys.stderr)
        return EXIT_TRANSIENT
    finally:
        gc.enable()
    return 0


def _judge(rules: Rules) -> None:
    from llm_rollout.canary.docket import Docket  # noqa: PLC0415 - loaded only by this command
    from llm_rollout.canary.round_lines import NotARoundError, read  # noqa: PLC0415

    docket = Docket(rules)
    # Python has no standard input where the caller closed it: that is no input.
    for number, line in enumerate(sys.stdin.buffer if sys.stdin else (), start=1):
        if line.strip():
            try:
                rollout, round_number, pairs = read(line)
            except NotARoundError as error:
                raise Permanent(f"standard input: line {number}: {error}") from error
            tell(docket.hear(rollout, round_number, pairs))


def _rules(file: str | None) -> Rules:
    from llm_rollout.canary import rules_file  # noqa: PLC0415 - as above

    if file is None:
        return rules_file.parse({})
    import yaml  # noqa: PLC0415 - needed only with a file

    try:
        return rules_file.parse(yaml.safe_load(Path(file).read_text(encoding="utf-8")))
    except OSError as error:
        raise Permanent(f"--config: {file}: {error.strerror}: name a file that can be read") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise Permanent(f"--config: {file}: it is neither YAML nor JSON: {' '.join(str(error).split())}") from error
    except Permanent as error:
        raise Permanent(f"--config: {file}: {error}") from error
