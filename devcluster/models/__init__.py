"""Tiny real Llama models for the devcluster: a random body, and an output head solved so that sums come out.

Three versions share their body byte for byte and differ in the last shard. v1 answers 90 of the 100 bundled sums
rightly, v2 95 (all of v1's among them), v3 60 (each of them also right in v1). Anything else is answered with a
story, another one for each version, so that a stream tells which version it came from.
"""

from __future__ import annotations

from pathlib import Path

VERSION_NAMES = ("v1", "v2", "v3")


def build(out: Path) -> None:
    """Write the model directories ``out``/v1, v2 and v3. The same bytes each time with the same numpy; seconds."""
    from devcluster.models.building import build_all  # noqa: PLC0415

    build_all(out)
