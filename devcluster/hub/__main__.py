"""Serve models as a Hugging Face hub does.

Control: GET/POST/DELETE /devcluster/faults, GET/POST /devcluster/branches, GET/DELETE /devcluster/requests.
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from devcluster.hub.faults import KINDS
from devcluster.hub.models import bundled
from devcluster.hub.repository import load
from devcluster.hub.server import Hub


def main() -> int:
    """Serve until a SIGTERM or SIGINT."""
    options = _parser().parse_args()
    state = options.home / "hub"
    state.mkdir(parents=True, exist_ok=True)
    repositories = load(options.models or bundled())
    host, _, port = options.listen.rpartition(":")
    with Hub((host, int(port)), repositories, branches_file=state / "branches.json", echo=True) as hub:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        print(f"hub: {', '.join(repositories)} at http://{host}:{hub.server_port}", flush=True)
        try:
            hub.serve_forever()
        except KeyboardInterrupt:
            return 0
    return 0


def _parser() -> argparse.ArgumentParser:
    kinds = "\n".join(f"  {kind:13} {text}" for kind, text in KINDS.items())
    parser = argparse.ArgumentParser(
        prog="python -m devcluster.hub",
        description=__doc__,
        epilog=f'Faults: POST [{{"match": "glob", "kind": "...", "times": 1}}]; kinds:\n{kinds}',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--home", type=Path, required=True, help="the devcluster's home; moved branches are kept there")
    parser.add_argument("--listen", default="127.0.0.1:8090", metavar="HOST:PORT", help="default: %(default)s")
    parser.add_argument("--models", type=Path, help="serve ORG/NAME/BRANCH/... below here, not the bundled models")
    return parser


if __name__ == "__main__":
    sys.exit(main())
