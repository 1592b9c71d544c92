"""Where a comparison's tasks come from: a bundled set, or a file that the pod sees."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from llm_rollout.canary import task_set
from llm_rollout.canary.task_set import Task
from llm_rollout.errors import Permanent

CONFIG_MAP_PREFIX = "configmap:"
CONFIG_MAP_FOLDER = "/etc/llm-rollout/tasks"
"""Where the Job mounts the ConfigMap that ``canary.tasks`` names."""


def load(name: str) -> tuple[Task, ...]:
    """The tasks of ``canary.tasks``: a bundled set's name, ``configmap:NAME/KEY`` or a path.

    Raises:
        Permanent: There is no such set, or it is not one that can be graded.
    """
    tasks = task_set.parse(_text(name), name)
    if not task_set.graded(tasks):
        raise Permanent(
            f"canary.tasks: {name} has no task with an answer, so nothing would be known of quality: add tasks with "
            "answers, for example those of a bundled set"
        )
    return tasks


def _text(name: str) -> str:
    if name.startswith(CONFIG_MAP_PREFIX):
        return _read(f"{CONFIG_MAP_FOLDER}/{name.rpartition('/')[2]}", name)
    if "/" in name or name.endswith(".jsonl"):
        return _read(name, name)
    bundled = files("llm_rollout").joinpath("canary", "tasks")
    held = sorted(each.name.removesuffix(".jsonl") for each in bundled.iterdir() if each.name.endswith(".jsonl"))
    if name not in held:
        raise Permanent(f"canary.tasks: {name!r} is not bundled: write one of {', '.join(held)}, or a path")
    return bundled.joinpath(f"{name}.jsonl").read_text(encoding="utf-8")


def _read(path: str, name: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Permanent(f"canary.tasks: {name} cannot be read ({error}): give a JSONL file in UTF-8") from None
