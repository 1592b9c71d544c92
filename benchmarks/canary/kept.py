"""What a study has found so far, on disk: one that was cut short goes on where it was."""

from __future__ import annotations

import json
import sys
from functools import cache
from hashlib import sha256
from pathlib import Path

from benchmarks.canary.study import OURS, Results, Tally, Task

_PLAYED = ("benchmarks.canary.worlds", "benchmarks.canary.study", "llm_rollout.canary.rounds")
_PEERS = ("benchmarks.canary.peers",)


class Kept:
    """A file with one line of JSON for each task that is finished. Another source of a judge makes it another task."""

    def __init__(self, file: Path | None) -> None:
        """Read what is there; nothing is kept without a file."""
        self._file = file
        self._found = _read(file) if file is not None and file.exists() else {}

    def found(self, task: Task) -> Results | None:
        """What was found before."""
        return self._found.get(_name(task))

    def keep(self, task: Task, results: Results) -> None:
        """Write at once, for the next may be the last."""
        if self._file is None:
            return
        tallies = [[*key, tally.pairs] for key, tally in results.items()]
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"task": _name(task), "tallies": tallies}) + "\n")


def _read(file: Path) -> dict[str, Results]:
    found: dict[str, Results] = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        try:
            one = json.loads(line)
        except ValueError:
            continue  # It was cut while it was written.
        found[one["task"]] = {(rule, world): Tally(pairs) for rule, world, pairs in one["tallies"]}
    return found


def _name(task: Task) -> str:
    ours = [name for name in sys.modules if name.startswith("llm_rollout.canary.")]
    return sha256(f"{_digest((*_PLAYED, *(ours if OURS in task[0] else _PEERS)))} {task!r}".encode()).hexdigest()


@cache
def _digest(modules: tuple[str, ...]) -> str:
    files = sorted({Path(str(sys.modules[name].__file__)) for name in modules})
    return sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
