"""The processes behind pods, seen from this machine: what a node that breaks would do to them."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator

import psutil

from devcluster.layout import Layout

_ENGINE = "devcluster.standins.vllm"
_LIBRARY = "llm_rollout"
_GONE_SECONDS = 10.0


def leaders(layout: Layout, commit: str) -> list[psutil.Process]:
    """Processes that serve the API of a commit."""
    return [
        process
        for process, command in _commands(layout)
        if _ENGINE in command and "--headless" not in command and any(commit in word for word in command)
    ]


def evaluations(layout: Layout, candidate: str) -> list[psutil.Process]:
    """Processes that compare the LeaderWorkerSet ``candidate`` with its stable."""
    asked = f"--candidate=http://{candidate}-0."
    return [
        process
        for process, command in _commands(layout)
        if _LIBRARY in command and any(word.startswith(asked) for word in command)
    ]


def kill(found: Iterable[psutil.Process]) -> int:
    """End them without a word, as an out-of-memory killer does; how many there were."""
    return _signal(found, signal.SIGKILL)


def stop(found: Iterable[psutil.Process]) -> int:
    """Let them stand still: connections are accepted, and nothing is ever answered."""
    return _signal(found, signal.SIGSTOP)


def await_end(found: Iterable[psutil.Process]) -> None:
    """Return when they are gone."""
    psutil.wait_procs(list(found), timeout=_GONE_SECONDS)


def _signal(found: Iterable[psutil.Process], number: signal.Signals) -> int:
    count = 0
    for process in found:
        process.send_signal(number)
        count += 1
    return count


def _commands(layout: Layout) -> Iterator[tuple[psutil.Process, list[str]]]:
    """Everything that runs in the cluster, with its command line."""
    for process in psutil.Process(int(layout.read_state()["pid"])).children(recursive=True):
        try:
            yield process, process.cmdline()
        except psutil.Error:  # It has ended meanwhile.
            continue
