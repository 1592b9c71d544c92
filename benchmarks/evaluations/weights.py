"""``python -m benchmarks.evaluations.weights OUTDIR``: v1 of the tiny model with ten sums in a hundred fewer right."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

_LOST = 10


def build(out: Path) -> None:
    """Write the model directory ``out``, in a process of its own: only at its start threads can be forbidden."""
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    subprocess.run([sys.executable, "-m", "benchmarks.evaluations.weights", str(out)], env=environment, check=True)


def main() -> int:
    """Build it."""
    from devcluster.models.architecture import HEAD, Architecture  # noqa: PLC0415 - after the threads are forbidden
    from devcluster.models.body import random_body  # noqa: PLC0415
    from devcluster.models.checkpoint import write_checkpoint  # noqa: PLC0415
    from devcluster.models.head import Features, solve_head  # noqa: PLC0415
    from devcluster.models.lessons import VERSIONS, Version, lessons  # noqa: PLC0415

    arch, before = Architecture(), VERSIONS[0]
    worse = Version("v1-worse", before.wrong_sums + _LOST, before.story)
    body = random_body(arch)
    head = solve_head(Features(arch, body), lessons(worse), arch.vocab_size)
    write_checkpoint(Path(sys.argv[1]), arch, body | {HEAD: head}, f"v1 with {_LOST} sums more that are wrong\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
