"""Prompts with or without known answers, one JSON object a line; ``docs/task-sets.md`` is for those who write them.

``{"id": "add-1-2", "prompt": "1+2=", "answer": "3"}`` is a whole task. In place of ``prompt``, ``messages`` asks as a
chat. Optional: ``grader`` (exact), ``tolerance`` of a numeric answer (0), ``max_tokens`` (the spec's), ``stop`` (a list
of texts; a prompt that is completed ends at the end of the line unless told otherwise, because base models go on with
the next exercise). A task without ``answer`` is load: its errors and times count, its text does not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llm_rollout.canary.grading import GRADERS
from llm_rollout.errors import Permanent

_FIELDS = frozenset({"id", "prompt", "messages", "answer", "grader", "tolerance", "max_tokens", "stop"})


@dataclass(frozen=True)
class Task:
    """One question, and its answer where it has one."""

    id: str
    answer: str | None
    prompt: str | None = None
    messages: tuple[Mapping[str, Any], ...] = ()
    grader: str = "exact"
    max_tokens: int | None = None
    stop: tuple[str, ...] = ("\n",)
    tolerance: float = 0.0

    def right(self, text: str) -> bool | None:
        """Whether ``text`` is a right answer; None where no answer is known."""
        return None if self.answer is None else GRADERS[self.grader].right(text, self.answer, self.tolerance)


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


def graded(tasks: tuple[Task, ...]) -> int:
    """How many of the tasks have an answer."""
    return sum(task.answer is not None for task in tasks)


def _task(line: str, place: str) -> Task:
    value = _object(line, place)
    _check_question(value, place)
    _check(isinstance(value.get("id"), str) and value["id"], place, "id", value, "a text that is not empty")
    answer = _answer(value, place)
    limit = value.get("max_tokens")
    counted = limit is None or (isinstance(limit, int) and not isinstance(limit, bool) and limit > 0)
    _check(counted, place, "max_tokens", value, "a number above 0")
    stop = value.get("stop", [] if value.get("prompt") is None else ["\n"])
    _check(isinstance(stop, list) and all(isinstance(x, str) for x in stop), place, "stop", value, "a list of texts")
    messages, tolerance = tuple(value.get("messages") or ()), float(value.get("tolerance", 0.0))
    grader = value.get("grader", "exact")
    return Task(value["id"], answer, value.get("prompt"), messages, grader, limit, tuple(stop), tolerance)


def _check_question(value: Mapping[str, Any], place: str) -> None:
    if value.get("prompt") is not None:
        _check(isinstance(value["prompt"], str) and "messages" not in value, place, "prompt", value, "a text, alone")
        return
    _check(isinstance(value.get("messages"), list) and value["messages"], place, "prompt", value, "a text")
    rightly = all(isinstance(each, dict) and isinstance(each.get("role"), str) for each in value["messages"])
    _check(rightly, place, "messages", value, "a list of objects with role and content")


def _answer(value: Mapping[str, Any], place: str) -> str | None:
    """The answer as a text; a schema may be written as the object that it is."""
    grader = value.get("grader", "exact")
    _check(isinstance(grader, str) and grader in GRADERS, place, "grader", value, f"one of {', '.join(GRADERS)}")
    tolerance = value.get("tolerance", 0)
    fine = isinstance(tolerance, int | float) and not isinstance(tolerance, bool) and 0 <= tolerance < float("inf")
    _check(fine and (not tolerance or grader == "numeric"), place, "tolerance", value, "0 or more, with grader numeric")
    if "answer" not in value:
        _check("grader" not in value, place, "answer", value, "an answer, or no grader: then the task is load only")
        return None
    answer = value["answer"]
    text = json.dumps(answer) if grader == "json_schema" and isinstance(answer, dict) else answer
    _check(isinstance(text, str) and text, place, "answer", value, "a text that is not empty")
    wanted = GRADERS[grader].problem(text)
    _check(not wanted, place, "answer", value, wanted)
    return str(text)


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
