"""Check specs, or plain Kubernetes manifests, without a cluster: one line for each problem.

A line reads file: field: value: what is wrong: remedy. Of plain manifests the known defects of LeaderWorkerSet and
RDMA settings are named (K0 to K11, L1 to L16), each with the corrected lines indented below it, and the documented
pairing of RDMA device and network that the pods use. Files that are given together are looked at together: a spec
with its networks and nodes. Exit 0 when everything is valid, else 2.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

SUMMARY = "check specs or manifests without a cluster"

VALID, INVALID = 0, 2


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("files", nargs="*", metavar="FILE", help="a spec, or a file of Kubernetes manifests")
    parser.add_argument("--schema", action="store_true", help="print the JSON schema of a spec and stop")


def run(options: argparse.Namespace) -> int:
    """Print what is wrong with the files, or what they ask for; 0 when all are valid, else 2."""
    from llm_rollout.checking import check  # noqa: PLC0415 - keeps the other commands free of YAML and the lints
    from llm_rollout.spec import RolloutSpec  # noqa: PLC0415

    if options.schema:
        print(json.dumps(RolloutSpec.model_json_schema(), indent=2))
        return VALID
    if not options.files:
        print("llm-rollout check: no FILE given: name specs, for example include/rollouts/*.yaml", file=sys.stderr)
        return INVALID
    report = check([Path(name) for name in options.files])
    print(report)
    return INVALID if report.failed else VALID
