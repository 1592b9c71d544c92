"""``python -m devcluster.node``: the node agent; the supervisor starts it inside the cluster's namespaces."""

import argparse
import asyncio
from pathlib import Path

from devcluster.layout import Layout
from devcluster.node.agent import work

parser = argparse.ArgumentParser(prog="python -m devcluster.node", description=__doc__)
parser.add_argument("--home", type=Path, required=True, help="the devcluster's home")
asyncio.run(work(Layout(parser.parse_args().home)))
