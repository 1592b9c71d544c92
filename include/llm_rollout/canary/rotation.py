"""Which tasks are asked next, and which answers count as grades: each task's once, however often it is asked."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llm_rollout.canary.rounds import Answer, Pair
from llm_rollout.canary.task_set import Task


@dataclass(frozen=True, slots=True)
class Reply:
    """What a server said to one request."""

    text: str = ""
    ttft_ms: float | None = None
    total_ms: float | None = None
    tokens: int | None = None
    failure: str = ""
    """Why there is no complete answer, in a few words that many requests share; empty for a complete one."""
    prompt_tokens: int | None = None
    itl_ms: float | None = None
    """Mean time between two tokens; None for an answer of one token."""


class Rotation:
    """A task set in one random order: first every task until it has been graded, then repeats for errors and times."""

    def __init__(self, tasks: Sequence[Task], seed: int) -> None:
        """Shuffle once for the whole comparison."""
        self._all = tuple(random.Random(seed).sample(list(tasks), len(tasks)))  # noqa: S311 - not a secret
        self._ungraded = {task.id: task for task in self._all}
        self._asked = 0

    def next(self, size: int) -> tuple[Task, ...]:
        """The tasks of a round. None is asked twice in it unless the set is smaller than the round."""
        chosen = list(self._ungraded.values())[:size]
        held = {task.id for task in chosen}
        repeats = 0
        while len(chosen) < size:
            task = self._all[(self._asked + repeats) % len(self._all)]
            repeats += 1
            if task.id not in held or repeats > len(self._all):
                chosen.append(task)
        self._asked += repeats
        return tuple(chosen)

    def pair(self, task: Task, stable: Reply, candidate: Reply) -> Pair:
        """The pair of two replies, graded if both are complete and this task was not graded before.

        A task that a side failed is asked again after the others that have no grade yet.
        """
        if task.id not in self._ungraded:
            return Pair(answer(stable), answer(candidate))
        del self._ungraded[task.id]
        if stable.failure or candidate.failure:
            self._ungraded[task.id] = task
            return Pair(answer(stable), answer(candidate))
        return Pair(answer(stable, task), answer(candidate, task))

    def position(self) -> dict[str, Any]:
        """Plain values that ``move_to`` takes for a rotation of the same tasks and seed."""
        places = {task.id: place for place, task in enumerate(self._all)}
        return {"asked": self._asked, "ungraded": _ranges([places[each] for each in self._ungraded])}

    def move_to(self, position: Mapping[str, Any]) -> None:
        """Go on where another rotation of the same tasks and seed was.

        Raises:
            ValueError: It was of more tasks than these.
        """
        places = [place for start, end in position["ungraded"] for place in range(start, end)]
        if any(not 0 <= place < len(self._all) for place in places):
            raise ValueError(f"it was made with other tasks than these {len(self._all)}")
        self._asked = int(position["asked"])
        self._ungraded = {self._all[place].id: self._all[place] for place in places}


def _ranges(places: Sequence[int]) -> list[list[int]]:
    """Runs of following numbers as [first, last + 1]: a set is mostly asked in its order."""
    ranges: list[list[int]] = []
    for place in places:
        if ranges and ranges[-1][1] == place:
            ranges[-1][1] = place + 1
        else:
            ranges.append([place, place + 1])
    return ranges


def answer(reply: Reply, task: Task | None = None) -> Answer:
    """The reply as the judge sees it, graded by ``task`` if there is one."""
    ok = not reply.failure
    correct = task.right(reply.text) if task and ok else None
    return Answer(ok, reply.ttft_ms, reply.total_ms, reply.tokens, correct, reply.prompt_tokens)
