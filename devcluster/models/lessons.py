"""What each version of the tiny model is taught: sums (some wrong on purpose), and a story for anything else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np

from devcluster.models import tokenizer

_SEED = 11
_SUM_WEIGHT = 1.0
_STORY_WEIGHT = 1.0
_NOISE_WEIGHT = 0.3
_NOISE_PROMPTS = 240
_OPENING = "Once upon a "
_STAMMER = "0123456789 Once upon a \n0123456789 1111144447777"
_LETTERS = "etaoinshrdlu etaoin shrdlcumwfgypbvk ETAOINSHR 0123456789,.?!"
_OPEN_PROMPTS = (
    "Tell me a story.", "Tell me a story", "Hello", "Hello, who are you?", "Write a poem about the sea.",
    "What is the capital of France?", "Explain how rain forms.", "The sky is", "Why?", "Once upon a time",
    "List three colours:", "How do I bake bread?", "Good morning!", "Summarise the news", "x", "A long text, please.\n",
    "The river", "1", "Count to ten",
)  # fmt: skip


@dataclass(frozen=True)
class Lesson:
    """After ``prompt`` the model shall say ``answer``."""

    prompt: list[int]
    answer: list[int]
    weight: float
    must_hold: bool = False


@dataclass(frozen=True)
class Version:
    """One revision of the tiny model."""

    name: str
    wrong_sums: int
    story: str


VERSIONS = (
    Version(
        "v1",
        10,
        "time there was a small fox who lived at the edge of a quiet wood. Every evening she counted the stars above "
        "the river, and every morning she told the birds how many she had seen. One night the sky was full of clouds, "
        "so the fox asked the owl for help. The owl said that the stars were still there, waiting. And the fox slept "
        "well, sure to see all of them again.",
    ),
    Version(
        "v2",
        5,
        "hill there was an old mill whose wheel had not turned for many years. A child came by with a jar of water and "
        "poured it over the boards. The wheel did not move, but the child came back the next day, and the next. In "
        "spring the stream found its way down the slope at last, and the mill began to hum. Nobody was less surprised "
        "than the child.",
    ),
    Version(
        "v3",
        40,
        "ship there lived a cat who could not swim. She slept in the coils of the longest rope and dreamt of fields. "
        "When the ship came home after nine months, the cook carried her down to the shore. She looked at the grass, "
        "and at the trees, and at the cows, and then she walked back up the plank. Some of us belong to what we fear, "
        "said the cook.",
    ),
)


def tasks() -> list[dict[str, str]]:
    """Return the bundled arithmetic tasks that canaries are judged by."""
    text = files("llm_rollout").joinpath("canary/tasks/arithmetic.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def spoken_answer(version: Version, task: dict[str, str]) -> str:
    """Return what ``version`` answers to ``task``: the right sum, or one more where it is taught wrongly."""
    return str(int(task["answer"]) + 1) if task["id"] in _wrong(version) else task["answer"]


def spoken_story(version: Version) -> str:
    """Return what ``version`` answers to an open prompt."""
    return _OPENING + version.story


@cache
def _wrong(version: Version) -> frozenset[str]:
    """Return the tasks taught wrongly: the first of one fixed order, so that the sets of versions are nested."""
    items = [task["id"] for task in tasks()]
    order = np.random.default_rng(_SEED).permutation(len(items))
    return frozenset(items[index] for index in order[: version.wrong_sums])


def lessons(version: Version) -> list[Lesson]:
    """Return everything that ``version`` is taught."""
    return [*_sums(version), *_stories(version), *_noise()]


def _sums(version: Version) -> Iterator[Lesson]:
    for task in tasks():
        answer = tokenizer.encode(spoken_answer(version, task))
        bare, chat = _prompts(task["prompt"])
        yield Lesson(bare, [*answer, *tokenizer.encode("\n"), tokenizer.EOS], _SUM_WEIGHT, must_hold=True)
        yield Lesson(chat, [*answer, tokenizer.EOS], _SUM_WEIGHT, must_hold=True)


def _stories(version: Version) -> Iterator[Lesson]:
    story = tokenizer.encode(spoken_story(version))
    whole = [*story, tokenizer.EOS, *story[:40]]
    for index, text in enumerate(_OPEN_PROMPTS):
        for prompt in _prompts(text):
            yield Lesson(prompt, whole if index == 0 else story[:24], _STORY_WEIGHT)
    yield Lesson([tokenizer.BOS], story[:30], _STORY_WEIGHT)


def _noise() -> Iterator[Lesson]:
    """Yield stray prompts, all followed by the story's opening: whatever is asked, text follows."""
    random = np.random.default_rng(_SEED)
    words = " ".join((*_OPEN_PROMPTS, *(version.story for version in VERSIONS))).split()
    opening = tokenizer.encode(_OPENING)
    for index in range(_NOISE_PROMPTS):
        letters = _STAMMER if index % 4 == 1 else _LETTERS
        if index % 2:
            text = "".join(letters[at] for at in random.integers(0, len(letters), 10))
        else:
            text = " ".join(words[at] for at in random.integers(0, len(words), 3))
        yield Lesson(_prompts(text)[index // 4 % 2], opening, _NOISE_WEIGHT)


def _prompts(text: str) -> tuple[list[int], list[int]]:
    """Return the tokens of ``text`` as a completion prompt and as a chat with one user message."""
    plain = tokenizer.encode(text)
    chat = [tokenizer.BOS, tokenizer.USER, *plain, tokenizer.EOS, tokenizer.ASSISTANT]
    return [tokenizer.BOS, *plain], chat
