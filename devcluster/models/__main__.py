"""``python -m devcluster.models OUTDIR``: write the tiny models to OUTDIR/v1, v2 and v3."""

from __future__ import annotations

import argparse
from pathlib import Path

from devcluster.models import build


def main() -> None:
    """Parse the command line and build."""
    parser = argparse.ArgumentParser(prog="python -m devcluster.models", description=__doc__)
    parser.add_argument("outdir", type=Path, metavar="OUTDIR", help="made if missing; files in it are overwritten")
    build(parser.parse_args().outdir)


if __name__ == "__main__":
    main()
