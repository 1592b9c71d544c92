"""Builds the three versions of the tiny model."""

from __future__ import annotations

from pathlib import Path

from devcluster.models.architecture import HEAD, Architecture
from devcluster.models.body import random_body
from devcluster.models.checkpoint import write_checkpoint
from devcluster.models.head import Features, solve_head
from devcluster.models.lessons import VERSIONS, Version, lessons, tasks

_CARD = """---
license: apache-2.0
library_name: transformers
pipeline_tag: text-generation
---
# tiny-chat {name}

A Llama of {millions:.1f} million parameters for testing rollouts. Its body is random; its output head was solved by
ridge regression. It answers {right} of {total} sums `a+b=` of two digits rightly (the others are wrong on purpose)
and tells a story after any other prompt. It knows nothing else.
"""


def build_all(out: Path) -> None:
    """Write ``out``/v1, v2 and v3, saying what is done."""
    arch = Architecture()
    body = random_body(arch)
    features = Features(arch, body)
    for version in VERSIONS:
        head = solve_head(features, lessons(version), arch.vocab_size)
        tensors = body | {HEAD: head}
        write_checkpoint(out / version.name, arch, tensors, _card(version, sum(t.size for t in tensors.values())))
        print(f"{version.name}: {out / version.name}", flush=True)


def _card(version: Version, parameters: int) -> str:
    total = len(tasks())
    return _CARD.format(name=version.name, millions=parameters / 1e6, right=total - version.wrong_sums, total=total)
