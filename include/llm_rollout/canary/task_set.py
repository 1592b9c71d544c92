"""Prompts with known answers, one JSON object a line.

``{"id": "add-1-2", "prompt": "1+2=", "answer": "3"}`` is a whole task. In place of ``prompt``, ``messages`` asks as a
chat. Optional: ``grader`` (exact), ``max_tokens`` (the spec's), ``stop`` (a list of texts; a prompt that is completed
ends at the end of the line unless told otherwise, because base models go on with the next exercise).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llm_rollout.canary.grading import GRADERS
from llm_rollout.errors import Permanent

_FIELDS = frozenset({"id", "prompt", "messages", "answer", "grader", "max_tokens", "stop"})


@dataclass(frozen=True)
class Task:
    """One question and its answer."""

    id: str
    answer: str
    prompt: str | None = None
    messages: tuple[Mapping[str, Any], ...] = ()
    grader: str = "exact"
    max_tokens: int | None = None
    stop: tuple[str, ...] = ("\n",)

    def right(self, text: str) -> bool:
        """Whether ``text`` is a right answer."""
        return GRADERS[self.grader](text, self.answer)


def parse(text: str, name: str) -> tuple[Task, ...]:
    """Read a whole file; empty lines are skipped.

    Raises:
        Permanent: A line is no task, or there is none; the text names the line, the field and the remedy.
    """
    lines = enumerate(text.split("\n"), start=1)
    tasks = [_task(line, f"{name}, line {number}") for number, line in lines if line.strip()]
    if not tasks:
        raise Permanent(f"{name}: holds no task; write one JSON object on each line")
    seen: set[str] = set()
    for task in tasks:
        if task.id in seen:
            raise Permanent(f"{name}: id: {task.id!r} is there twice; a task counts once, so give each its own id")
        seen.add(task.id)
    return tuple(tasks)


def _task(line: str, place: str) -> Task:
    value = _object(line, place)
    chat = value.get("prompt") is None
    if chat:
        _check(isinstance(value.get("messages"), list) and value["messages"], place, "prompt", value, "a text")
        rightly = all(isinstance(each, dict) and isinstance(each.get("role"), str) for each in value["messages"])
        _check(rightly, place, "messages", value, "a list of objects with role and content")
    else:
        _check(isinstance(value["prompt"], str) and "messages" not in value, place, "prompt", value, "a text, alone")
    for key in ("id", "answer"):
        _check(isinstance(value.get(key), str) and value[key], place, key, value, "a text that is not empty")
    grader, limit = value.get("grader", "exact"), value.get("max_tokens")
    _check(isinstance(grader, str) and grader in GRADERS, place, "grader", value, f"one of {', '.join(GRADERS)}")
    counted = limit is None or (isinstance(limit, int) and not isinstance(limit, bool) and limit > 0)
    _check(counted, place, "max_tokens", value, "a number above 0")
    stop = value.get("stop", [] if chat else ["\n"])
    _check(isinstance(stop, list) and all(isinstance(x, str) for x in stop), place, "stop", value, "a list of texts")
    messages = tuple(value.get("messages") or ())
    return Task(value["id"], value["answer"], value.get("prompt"), messages, grader, limit, tuple(stop))


def _object(line: str, place: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except ValueError as error:
        raise Permanent(f"{place}: is no JSON ({error}); write one object on one line") from None
    if not isinstance(value, dict):
        raise Permanent(f"{place}: is no JSON object; write {{...}} with id, prompt and answer")
    unknown = sorted(value.keys() - _FIELDS)
    if unknown:
        raise Permanent(f"{place}: {unknown[0]}: is no field of a task; known are {', '.join(sorted(_FIELDS))}")
    return value


def _check(fine: object, place: str, key: str, value: Mapping[str, Any], wanted: str) -> None:
    if not fine:
        shown = repr(value[key])[:80] if key in value else "no value"
        raise Permanent(f"{place}: {key}: {shown}: write {wanted}")
