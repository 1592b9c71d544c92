"""``python -m devcluster.standins.vllm serve MODEL_DIR …``: see the package's docstring."""

from __future__ import annotations

import os
import sys

# Before numpy loads: a pod has a slice of a core, and threads that spin would take it from its neighbours.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def main() -> int:
    """Run the command line; return the exit code."""
    from devcluster.standins.vllm.startup import run  # noqa: PLC0415

    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
