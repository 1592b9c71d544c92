"""``python -m devcluster.models OUTDIR``: write the tiny models to OUTDIR/v1, v2 and v3."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def main() -> None:
    """Parse the command line and build."""
    parser = argparse.ArgumentParser(prog="python -m devcluster.models", description=__doc__)
    parser.add_argument("outdir", type=Path, metavar="OUTDIR", help="made if missing; files in it are overwritten")
    outdir = parser.parse_args().outdir
    from devcluster.models.building import build_all  # noqa: PLC0415

    build_all(outdir)


if __name__ == "__main__":
    main()
