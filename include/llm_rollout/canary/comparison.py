"""Rounds until there is a decision: which tasks, what they say, what the judge makes of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from llm_rollout.canary.judge import Judge, Standing
from llm_rollout.canary.rotation import Reply, Rotation
from llm_rollout.canary.rules import Rules
from llm_rollout.canary.task_set import Task

Ask = Callable[[Sequence[Task]], Sequence[tuple[Reply, Reply]] | None]
"""Ask both sides; the replies as (stable, candidate) in the order of the tasks, None when there was no time for all."""


def compare(
    rules: Rules, rotation: Rotation, ask: Ask, tell: Callable[[Standing], None], begun: Standing | None = None
) -> Standing:
    """Play rounds until the judge decides, or until the time is up: then it is undecided.

    ``begun`` is where an interrupted comparison stood, together with its rotation: the same pots go on.
    """
    judge = Judge(rules)
    standing = begun or judge.begin()
    while standing.decision.outcome == "continue":
        left = rules.cap_pairs - standing.totals.pairs - len(standing.waiting)
        tasks = rotation.next(min(rules.round_pairs, left))
        replies = ask(tasks)
        if replies is None:
            return judge.close(standing, "canary.deadline_seconds is over")
        pairs = [rotation.pair(task, *both) for task, both in zip(tasks, replies, strict=True)]
        standing = judge.after(standing, pairs)
        tell(standing)
    return standing
