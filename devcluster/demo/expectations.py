"""The exact tokens that each revision of the demo's model answers a stream with."""

from __future__ import annotations

from devcluster.demo.clients import TOKENS
from devcluster.models.lessons import VERSIONS, spoken_story

PROMPTS = ("Tell me a story.", "Hello", "Good morning!")
"""Prompts after which every revision tells its own story, word for word."""


def expected_texts() -> dict[str, dict[str, str]]:
    """For each prompt the right texts, each with the revision that says it. One token is one byte here."""
    stories = {spoken_story(version)[:TOKENS]: version.name for version in VERSIONS}
    return {prompt: dict(stories) for prompt in PROMPTS}
