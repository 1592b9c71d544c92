"""Stage in child processes that can be killed at any moment, hundreds of them in a minute.

A process of one thread has everything imported and forks a child for each attempt. While the child works, the process
looks at ``models/`` all the time; then it tells how the child ended. ``ForkServer`` is the tests' side of it.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Self

import psutil

from llm_rollout.adapters.hub import HuggingFaceHub
from llm_rollout.staging import staging
from llm_rollout.staging.store import read_manifest
from tests.staging.disk_calls import DiskCalls

_LOOK_SECONDS = 0.001
_LONGEST_SECONDS = 60.0


@dataclass(frozen=True)
class Attempt:
    """What one child does and how it is killed, if at all."""

    request: Mapping[str, Any]
    constants: Mapping[str, float]
    """By ``module.NAME`` of the staging package: what stands in its place."""
    kill_after_seconds: float | None = None
    kill_when: str | None = None
    """As soon as there is a file of this name."""
    kill_at_call: int | None = None
    """Before the n-th call that changes the file system, from 0."""
    stop_at_call: int | None = None
    """As a machine that hangs: somebody must let the child go on."""
    torn: bool = False
    """Let that call write half of its bytes first."""
    name_calls: bool = False


@dataclass(frozen=True)
class Ending:
    """How a child ended."""

    killed: bool
    seconds: float
    said: Mapping[str, Any]
    """The report, an error, or the call before which it was killed."""
    calls: tuple[str, ...] = ()
    partial: tuple[str, ...] = ()
    """What a reader of ``models/`` saw that was not whole."""
    looks: int = 0


@dataclass
class ForkServer:
    """The tests' side. Use it in a ``with`` statement."""

    _process: subprocess.Popen[str] = field(init=False)

    def __enter__(self) -> Self:
        places = os.pathsep.join(path for path in sys.path if path)
        clean = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.staging.fork_server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**clean, "PYTHONPATH": places},
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=_LONGEST_SECONDS)

    def run(self, attempt: Attempt) -> Ending:
        """Fork one child and return when it has ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asdict(attempt)) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, "the fork server is gone: its error output says why"
        value = json.loads(answer)
        return Ending(**{**value, "calls": tuple(value["calls"]), "partial": tuple(value["partial"])})

    def stopped(self) -> list[psutil.Process]:
        """The child, if it hangs."""
        found = []
        for child in psutil.Process(self._process.pid).children():
            with contextlib.suppress(psutil.NoSuchProcess):
                found += [child] if child.status() == psutil.STATUS_STOPPED else []
        return found


def serve() -> None:
    """Answer each line of stdin with a line on stdout."""
    hub = _Remembering()
    for line in sys.stdin:
        attempt = Attempt(**json.loads(line))
        hub.resolve(*(attempt.request[name] for name in ("repo", "revision", "endpoint")))
        assert len([*Path("/proc/self/task").iterdir()]) == 1, "a process of several threads must not fork"
        print(json.dumps(asdict(_run(attempt, hub))), flush=True)


class _Remembering(HuggingFaceHub):
    """Asks the hub once a commit: the listing takes longer than all the rest and does nothing to the disk."""

    resolve = cache(HuggingFaceHub.resolve)


def _run(attempt: Attempt, hub: HuggingFaceHub) -> Ending:
    reading, writing = os.pipe()
    began = time.monotonic()
    child = os.fork()
    if not child:
        os.close(reading)
        _stage_and_exit(attempt, hub, writing)
    os.close(writing)
    seen, looks, status = [], 0, None
    while status is None:
        due = _is_due(attempt, time.monotonic() - began)
        if due:
            os.kill(child, signal.SIGKILL)
        seen += partial_models(Path(attempt.request["store"]) / "models")
        looks += 1
        ended, found = os.waitpid(child, 0 if due else os.WNOHANG)
        status = found if ended else None
        time.sleep(_LOOK_SECONDS)
    seconds = time.monotonic() - began
    with os.fdopen(reading) as stream:
        said = [json.loads(line) for line in stream]
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    calls = tuple(said[-1].pop("calls", ())) if said else ()
    return Ending(killed, seconds, said[-1] if said else {}, calls, tuple(seen), looks)


def _is_due(attempt: Attempt, seconds: float) -> bool:
    asked = attempt.kill_after_seconds is not None and seconds >= attempt.kill_after_seconds
    return asked or seconds > _LONGEST_SECONDS or bool(attempt.kill_when and Path(attempt.kill_when).exists())


def _stage_and_exit(attempt: Attempt, hub: HuggingFaceHub, writing: int) -> None:
    """Everything that the command does, without its parsing and printing."""
    code = 1
    try:
        for name, value in attempt.constants.items():
            _replace(name, value)
        end = signal.SIGKILL if attempt.stop_at_call is None else signal.SIGSTOP
        at = attempt.kill_at_call if attempt.stop_at_call is None else attempt.stop_at_call
        calls = DiskCalls(end, at, torn=attempt.torn, tell=writing)
        if at is not None or attempt.name_calls:
            calls.install()
        values = {**attempt.request, "store": Path(attempt.request["store"])}
        request = staging.Request(**{key: tuple(v) if isinstance(v, list) else v for key, v in values.items()})
        report = staging.stage(request, hub, lambda _line: None)
        calls.tell(json.dumps({**staging.as_line(report), "calls": calls.names}))
        code = 0
    except BaseException as error:  # noqa: BLE001 - whatever it is, the test is told
        os.write(writing, (json.dumps({"class": type(error).__name__, "message": str(error)}) + "\n").encode())
    finally:
        os._exit(code)


def _replace(name: str, value: float) -> None:
    module_name, _, constant = name.rpartition(".")
    module = importlib.import_module(f"llm_rollout.staging.{module_name}")
    assert hasattr(module, constant), f"{name} is not there any more: name the constant that has its place"
    setattr(module, constant, value)


def partial_models(models: Path) -> list[str]:
    """What a reader finds that is not whole: each published directory must be as its manifest says, in every look."""
    return [problem for folder in _folders(models) for problem in _partial(folder)]


def _folders(models: Path) -> Iterator[Path]:
    with contextlib.suppress(FileNotFoundError):
        for repo in sorted(models.iterdir()):
            yield from sorted(repo.iterdir())


def _partial(folder: Path) -> list[str]:
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return []
    try:
        # By descriptor: the directory may be moved away meanwhile, and a later one may take its name.
        files = read_manifest(Path(f"/proc/self/fd/{handle}")).get("files", [])
        wrong = [str(file["path"]) for file in files if _size(handle, file["path"]) != file["size_bytes"]]
        if not files:
            wrong = ["no manifest"]
        return [f"{folder.name}: {wrong}"] if wrong and _leads_to(folder, handle) else []
    finally:
        os.close(handle)


def _leads_to(folder: Path, handle: int) -> bool:
    try:
        return folder.stat().st_ino == os.fstat(handle).st_ino
    except FileNotFoundError:
        return False


def _size(folder: int, path: str) -> int | None:
    try:
        return os.stat(path, dir_fd=folder).st_size
    except FileNotFoundError:
        return None


if __name__ == "__main__":
    serve()
