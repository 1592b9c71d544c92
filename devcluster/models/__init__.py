"""Tiny real Llama models for the devcluster: a random body, and an output head solved so that sums come out.

Three versions share their body byte for byte and differ in the last shard. v1 answers 90 of the 100 bundled sums
rightly, v2 95 (all of v1's among them), v3 60 (each of them also right in v1). Anything else is answered with a
story, another one for each version, so that a stream tells which version it came from.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

VERSION_NAMES = ("v1", "v2", "v3")


def build(out: Path) -> None:
    """Write the model directories ``out``/v1, v2 and v3; about 8 seconds, the same bytes with the same numpy.

    Raises:
        subprocess.CalledProcessError: Building failed; what it said went to standard error.
    """
    # A process of its own, because only at its start can the solver be kept to one thread: on shared cores the
    # threads spin against each other and take five times as long.
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-m", "devcluster.models", str(out)]
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
